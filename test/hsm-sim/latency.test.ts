import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { simulatedToken, type Misbehaviour } from '../support/hsm-sim.ts';
import { childClient } from './child-client.ts';
import { type Client, openClient, outcome } from './client.ts';

const token = simulatedToken();
let client: Client;

beforeAll(() => {
  client = openClient(token.hsm);
  client.makeKey('01');
});

afterEach(() => token.calm());

function signing(behaviour: Misbehaviour): void {
  token.control([{ on: 'C_Sign', do: behaviour }]);
}

/** Milliseconds of so many signatures, each. */
function timed(count: number): number[] {
  return Array.from({ length: count }, () => {
    const start = performance.now();
    client.sign('01');
    return performance.now() - start;
  });
}

const sum = (values: number[]) => values.reduce((total, value) => total + value, 0);

describe('latency', () => {
  it('is added to each call, never less than it says', () => {
    signing({ delay: 30 });
    for (const took of timed(5)) expect(took).toBeGreaterThanOrEqual(30);
  });

  it('varies by its jitter', () => {
    signing({ delay: 5, jitter: 40 });
    const took = timed(20);
    expect(Math.min(...took)).toBeGreaterThanOrEqual(5);
    expect(Math.max(...took) - Math.min(...took)).toBeGreaterThan(10);
  });

  it('of one function is not that of another', () => {
    token.control([{ on: 'C_FindObjectsInit', do: { delay: 40 } }]);
    expect(Math.min(...timed(3))).toBeGreaterThanOrEqual(40);
    const start = performance.now();
    for (let count = 0; count < 20; count += 1) client.module.C_GetInfo();
    expect(performance.now() - start).toBeLessThan(40 * 20);
  });

  it('ends when its rule goes', async () => {
    signing({ delay: 60_000 });
    const child = childClient(token.hsm, '01', 1);
    await expect.poll(() => token.fired(), { timeout: 15_000 }).toEqual([1]);
    token.calm();
    await expect.poll(() => child.lines(), { timeout: 15_000 }).toEqual(['open', 'ok']);
    child.finish();
    expect(await child.ended).toBe(0);
  });
});

describe('a device', () => {
  it('with a rate takes no more calls than that', () => {
    signing({ delay: 0, rate: 50 });
    // The first is free, ten follow at 20 ms each.
    expect(sum(timed(11))).toBeGreaterThanOrEqual(200 * 0.99);
  });

  it('that does one at a time has the calls of all processes in one queue', async () => {
    signing({ delay: 50, parallel: 1 });
    const children = [childClient(token.hsm, '01', 4), childClient(token.hsm, '01', 4)];
    await expect.poll(() => token.fired()[0], { timeout: 15_000 }).toBeGreaterThanOrEqual(2);
    const before = token.fired()[0] as number;
    const start = performance.now();
    await expect
      .poll(() => children.every((one) => one.lines().length === 5), { timeout: 15_000 })
      .toBe(true);
    // At most two of those counted were done when the clock started.
    expect(performance.now() - start).toBeGreaterThanOrEqual((8 - before) * 50 * 0.9);
    for (const child of children) child.finish();
    expect(await Promise.all(children.map((child) => child.ended))).toEqual([0, 0]);
  });

  it('that does two at a time is twice as fast', async () => {
    signing({ delay: 600, parallel: 2 });
    const start = performance.now();
    const child = childClient(token.hsm, '01', 1);
    await expect.poll(() => token.fired(), { timeout: 15_000 }).toEqual([1]);
    // The second place is free while the child has the first.
    expect(timed(1)[0] as number).toBeLessThan(1190);
    await expect.poll(() => child.lines(), { timeout: 15_000 }).toEqual(['open', 'ok']);
    expect(performance.now() - start).toBeGreaterThanOrEqual(600);
    child.finish();
    expect(await child.ended).toBe(0);
  });
});

describe('profiles', () => {
  const folder = resolve(import.meta.dirname, '../../hsm-sim/profiles');

  it.each(readdirSync(folder))(
    '%s is understood, each figure under its source or named an assumption',
    (name) => {
      const text = readFileSync(join(folder, name), 'utf8');
      token.control(text);
      expect(outcome(() => client.sign('01'))).toBe('ok');
      expect(outcome(() => client.module.C_CloseSession(client.session))).toBe('ok');
      client.reopen();
      client.login();
      let sourced = false;
      for (const line of text.split('\n')) {
        if (/^# ?$/.test(line)) sourced = false;
        if (/\b(Source|Assumption)[:.]/.test(line)) sourced = true;
        if (line !== '' && !line.startsWith('#')) expect({ line, sourced }).toEqual({ line, sourced: true });
      }
    },
  );

  it('are what a new token may begin with', () => {
    const made = simulatedToken('usb', { profile: 'yubihsm-2' });
    expect(readFileSync(made.hsm.environment.HSM_SIM_CONTROL as string, 'utf8')).toBe(
      readFileSync(join(folder, 'yubihsm-2.conf'), 'utf8'),
    );
  });
});
