import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { HookRunner, parseHook } from '../../src/agent/deliver/hook.ts';
import { eventually, isRunning } from './support/bundle.ts';
import { executable, forever, strangerOf } from './support/executable.ts';
import { startAuthority } from './support/harness.ts';

describe('a hook that ignores SIGTERM', () => {
  test('ends with the workload, and all that it started with it', async () => {
    const { authority, server } = await startAuthority();
    const hook = `exec:trap '' TERM; sh -c 'echo hook $$; sleep 100; true'; sleep 100`;
    const one = await executable(server);
    const running = one.exec(`console.log('up'); ${forever}`, '--crl-refresh', '0.2', '--on-change', hook);
    await running.seen('stdout', /up\n/);
    authority.revoke(strangerOf(authority));
    const [, pid = ''] = await running.seen('stdout', /hook (\d+)\n/);
    running.child.kill('SIGTERM');
    expect(await Promise.race([running.exited, sleep(5000, 'still running')])).toBe(143);
    expect(isRunning(pid)).toBe(false);
  });

  test('is ended when its time is over, and the next change runs it again', async () => {
    const notices: string[] = [];
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    const runner = new HookRunner(parseHook(`exec:trap '' TERM; sleep 100; sleep 100`), {
      dir: '/nowhere',
      workload: { kill: () => true, handles: () => true },
      notice: (line) => void notices.push(line),
      signal: stop.signal,
      minIntervalMs: 1,
      commandTimeoutMs: 100,
    });
    runner.changed('crl');
    const said = await eventually(() => (notices.length >= 2 ? notices : undefined));
    expect(said?.[1]).toMatch(/hook failed: it took longer than 0.1 s; trying again/);
  });
});

describe('a signal as hook', () => {
  test('waits for the workload’s handler: without one it would end it', async () => {
    const { authority, server } = await startAuthority();
    const handles = "process.on('SIGHUP', () => console.log('HUP'));";
    // Its handler comes when it is told to, by USR2.
    const script = `process.on('SIGUSR2', () => { ${handles} }); console.log('up'); ${forever}`;
    const one = await executable(server);
    const running = one.exec(script, '--crl-refresh', '0.2', '--on-change', 'signal:HUP');
    await running.seen('stdout', /up\n/);
    authority.revoke(strangerOf(authority));
    await running.seen('stderr', /hook failed: the command does not handle SIGHUP yet; trying again/);
    running.child.kill('SIGUSR2');
    await running.seen('stdout', /HUP\n/);
    running.child.kill('SIGTERM');
    expect(await running.exited).toBe(143);
  });

  test('that is meant to end the workload waits for nothing', async () => {
    const { authority, server } = await startAuthority();
    const one = await executable(server);
    const running = one.exec(
      `console.log('up'); ${forever}`,
      '--crl-refresh',
      '0.2',
      '--on-change',
      'signal:TERM',
    );
    await running.seen('stdout', /up\n/);
    authority.revoke(strangerOf(authority));
    expect(await running.exited).toBe(143);
  });
});
