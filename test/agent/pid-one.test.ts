import { signalTo } from '../support/signal.ts';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { beforeAll, expect, test } from 'vitest';
import { initScript } from '../../src/agent/deliver/init.ts';
import { bundled, eventually, start } from './support/bundle.ts';
import { startAuthority, workload } from './support/harness.ts';

let agent = '';

beforeAll(async () => {
  agent = await bundled('src/agent.ts', 'vouch-agent.js');
});

/** A PID namespace of its own, as a container has; without root in a user namespace besides. */
const namespace = [
  '--pid',
  '--fork',
  '--kill-child',
  ...(process.getuid?.() === 0 ? [] : ['--user', '--map-root-user']),
];

function childrenOf(pid: number): { pid: number; state: string; command: string }[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        const stat = readFileSync(`/proc/${name}/stat`, 'utf8');
        const [, command = '', state = '', parent = ''] = /\((.*)\) (\S) (\d+)/.exec(stat) ?? [];
        return Number(parent) === pid ? [{ pid: Number(name), state, command }] : [];
      } catch {
        return [];
      }
    });
}

const abandons = `
  const { spawn } = require('node:child_process');
  for (let i = 0; i < 6; i++) spawn('sh', ['-c', 'sleep 0.2 & exit 0'], { stdio: 'ignore' });
  process.on('SIGUSR1', () => console.log('USR1'));
  process.on('SIGTERM', () => process.exit(9));
  setTimeout(() => console.log('abandoned'), 800);
  setInterval(() => {}, 1000);`;

test('as PID 1: orphans are reaped, signals passed on, the code is the workload’s', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  const running = start('unshare', [
    ...namespace,
    process.execPath,
    agent,
    'exec',
    '--join-file',
    one.joinFile,
    '--out',
    one.dir,
    '--',
    process.execPath,
    '-e',
    abandons,
  ]);
  await running.seen('stdout', /abandoned\n/);
  const [init] = childrenOf(running.child.pid ?? 0);
  expect(init?.command).toMatch(/sh$/);
  const family = childrenOf(init?.pid ?? 0);
  expect(family.map(({ state }) => state)).not.toContain('Z');
  expect(family).toHaveLength(1);
  signalTo(init?.pid, 'SIGUSR1');
  await running.seen('stdout', /USR1\n/);
  signalTo(init?.pid, 'SIGTERM');
  expect(await running.exited).toBe(9);
});

test('the control: Node alone as PID 1 leaves them as zombies, which is why there is a shell', async () => {
  const running = start('unshare', [...namespace, process.execPath, '-e', abandons]);
  await running.seen('stdout', /abandoned\n/);
  const [init] = childrenOf(running.child.pid ?? 0);
  const zombies = await eventually(() => {
    const states = childrenOf(init?.pid ?? 0).map(({ state }) => state);
    return states.filter((state) => state === 'Z').length >= 6 ? states : undefined;
  });
  expect(zombies).toBeDefined();
});

test('as PID 1 the exit code and the output of a failed start come through', async () => {
  const running = start('unshare', [
    ...namespace,
    process.execPath,
    agent,
    'exec',
    '--join-file',
    '/nowhere',
    '--',
    'true',
  ]);
  expect(await running.exited).toBe(78);
  expect(running.stderr()).toContain('/nowhere is not there');
});

test('standard input reaches the workload, also through the shell', () => {
  const script = "process.stdin.on('data', (d) => process.stdout.write(d.toString().toUpperCase()))";
  const out = execFileSync('/bin/sh', ['-c', initScript, 'init', process.execPath, '-e', script], {
    input: 'hello',
  });
  expect(out.toString()).toBe('HELLO');
});
