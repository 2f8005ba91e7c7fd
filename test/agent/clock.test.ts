import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import { readHeld } from '../../src/agent/held.ts';
import { keepRenewed } from '../../src/agent/renewer.ts';
import type { Clock } from '../../src/core/clock.ts';
import { VouchError } from '../../src/core/errors.ts';
import { executable, forever } from './support/executable.ts';
import { startAuthority, workload } from './support/harness.ts';

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

describe('a wall clock that is set back an hour', () => {
  test('puts off neither the renewal nor the attempts after it', async () => {
    const { server } = await startAuthority();
    const one = workload(server);
    await one.enroll();
    const clock = new SettableClock();
    const held = readHeld(one.dir, clock.now());
    const dueMs = clock.now() + 100;
    const soon = { ...held, state: { ...held.state, renewal: { earliestMs: dueMs, latestMs: dueMs } } };
    const stop = new AbortController();
    onTestFinished(() => stop.abort());
    let attempts = 0;
    const done = keepRenewed(soon, {
      clock,
      signal: stop.signal,
      joinFile: one.joinFile,
      notice: () => undefined,
      attempt: () => {
        attempts += 1;
        clock.offsetMs -= 3_600_000;
        return attempts < 3
          ? Promise.reject(new VouchError('unavailable-server', 'away'))
          : Promise.resolve(held);
      },
      renewed: () => stop.abort(),
      revoked: () => undefined,
    });
    clock.offsetMs -= 3_600_000;
    expect(await Promise.race([done.then(() => 'renewed'), sleep(10_000)])).toBe('renewed');
  });
});

/** The machine's clock, which somebody sets. */
class SettableClock implements Clock {
  offsetMs = 0;

  now(): number {
    return Date.now() + this.offsetMs;
  }

  monotonicMs(): number {
    return performance.now();
  }
}
