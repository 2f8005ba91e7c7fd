import { describe, expect, test } from 'vitest';
import { executable, forever } from './support/executable.ts';
import { startAuthority } from './support/harness.ts';

describe('a clock two minutes behind the server’s', () => {
  test('is no reason not to start, nor to start again', async () => {
    const { server } = await startAuthority();
    server.clockOffsetMs = 120_000;
    const one = await executable(server);
    expect(await one.exec('').exited).toBe(0);
    const first = one.serial();
    expect(await one.exec('').exited).toBe(0);
    expect(one.serial()).not.toBe(first);
    await server.goAway();
    expect(await one.exec('').exited).toBe(0);
  });

  test('while the workload runs: what is renewed is taken up', async () => {
    const { server } = await startAuthority();
    server.renewal = { earliestSeconds: 1, latestSeconds: 1 };
    const one = await executable(server);
    const running = one.exec(`console.log('up'); ${forever}`);
    await running.seen('stdout', /up\n/);
    server.renewal = { earliestSeconds: 1000, latestSeconds: 1000 };
    server.clockOffsetMs = 120_000;
    await running.seen('stderr', /renewed: serial|cannot renew/);
    expect(running.stderr()).not.toContain('cannot renew');
    expect(one.serial()).toBe(/renewed: serial (\w+)/.exec(running.stderr())?.[1]?.toUpperCase());
  });
});
