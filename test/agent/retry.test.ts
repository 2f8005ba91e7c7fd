import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { describeSkew } from '../../src/agent/clock-skew.ts';
import { pauseMs, withRetries } from '../../src/agent/retry.ts';
import { VouchError } from '../../src/core/errors.ts';
import { problem } from './support/fake-server.ts';
import { run, startAuthority, workload } from './support/harness.ts';
import { limitMs } from '../support/limits.ts';

describe('pauses', () => {
  test('full jitter under a doubled bound, never before Retry-After', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 0, max: 100 }),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (failures, retryAfter, random) => {
          const backoff = { baseMs: 100, capMs: 5000 };
          const pause = pauseMs(failures, backoff, retryAfter, () => random);
          expect(pause).toBeGreaterThanOrEqual(retryAfter * 1000);
          expect(pause).toBeLessThanOrEqual(retryAfter * 1000 + Math.min(5000, 100 * 2 ** (failures - 1)));
        },
      ),
    );
    expect(pauseMs(3, { baseMs: 100, capMs: 5000 }, 0, () => 0)).toBe(0);
    expect(pauseMs(3, { baseMs: 100, capMs: 5000 }, 0, () => 0.5)).toBe(200);
  });

  test('the deadline ends it, with the last failure', async () => {
    let elapsed = 0;
    let attempts = 0;
    const failure = new VouchError('unavailable-server', 'away', { retryAfterSeconds: 0.02 });
    const result = withRetries(
      () => {
        attempts += 1;
        elapsed += 400;
        return Promise.reject(failure);
      },
      {
        backoff: { baseMs: 1, capMs: 1 },
        deadlineMs: 1000,
        monotonicMs: () => elapsed,
        signal: new AbortController().signal,
        failed: () => undefined,
      },
    );
    await expect(result).rejects.toMatchObject({
      code: 'unavailable-server',
      message: expect.stringContaining('away (gave up after 3 attempts') as string,
    });
    expect(attempts).toBe(3);
  });

  test('what is refused is not asked again', async () => {
    let attempts = 0;
    const result = withRetries(
      () => {
        attempts += 1;
        return Promise.reject(new VouchError('denied-evidence', 'no'));
      },
      {
        backoff: { baseMs: 1, capMs: 1 },
        deadlineMs: 1e9,
        monotonicMs: () => 0,
        signal: new AbortController().signal,
        failed: () => undefined,
      },
    );
    await expect(result).rejects.toMatchObject({ code: 'denied-evidence', message: 'no' });
    expect(attempts).toBe(1);
  });
});

test.each([
  [503, 'unavailable-overloaded'],
  [429, 'unavailable-rate-limited'],
  [502, 'x'],
  [500, 'internal'],
])('%i with Retry-After is obeyed', async (status, code) => {
  const { server } = await startAuthority();
  const times: number[] = [];
  server.intercept = (_kind, count) => {
    times.push(performance.now());
    return count === 1 ? problem(status, code, 'busy', { 'retry-after': '1' }) : undefined;
  };
  const one = workload(server);
  const { code: exit, stderr } = await one.enroll('--timeout', '10');
  expect(exit).toBe(0);
  expect(stderr).toMatch(/busy; trying again in 1\.\d s/);
  expect((times[1] ?? 0) - (times[0] ?? 0)).toBeGreaterThanOrEqual(1000);
});

test('Retry-After past the deadline is exit 75 at once', async () => {
  const { server } = await startAuthority();
  server.intercept = () => problem(503, 'unavailable-signer', 'the token is away', { 'retry-after': '30' });
  const started = performance.now();
  const { code, stderr } = await workload(server).enroll();
  expect(code).toBe(75);
  expect(JSON.parse(stderr)).toMatchObject({
    code: 'unavailable-server',
    detail: expect.stringContaining('the token is away') as string,
  });
  expect(performance.now() - started).toBeLessThan(limitMs(2000));
});

test.each([
  [400, 'request-csr', 1],
  [401, 'denied-evidence', 1],
  [403, 'denied-token-expired', 1],
  [403, 'denied-token-revoked', 1],
  [409, 'policy-key-conflict', 1],
  [404, 'nonsense', 1],
])('%i %s is final', async (status, code, exit) => {
  const { server } = await startAuthority();
  server.intercept = () => problem(status, code, 'because\u001b[31m of\nthat');
  const result = await workload(server).enroll();
  expect(result.code).toBe(exit);
  expect(server.bodies).toHaveLength(1);
  expect(JSON.parse(result.stderr)).toMatchObject({
    code: code === 'nonsense' ? 'denied-evidence' : code,
    detail: 'because [31m of that',
  });
});

test('a server that comes back within the time is met', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  const comeBack = await server.goAway();
  const enrolling = one.enroll('--timeout', '20');
  setTimeout(() => void comeBack(), 700);
  const { code, stderr } = await enrolling;
  expect(stderr).toContain('ECONNREFUSED');
  expect(code).toBe(0);
});

test('for programs stderr is one problem, whatever was tried before', async () => {
  const { server } = await startAuthority();
  server.intercept = () => problem(503, 'unavailable-overloaded', 'busy', { 'retry-after': '0' });
  const one = workload(server);
  const { code, stderr } = await one.enroll('--timeout', '2');
  expect(code).toBe(75);
  expect(server.bodies.length).toBeGreaterThan(1);
  expect(JSON.parse(stderr)).toMatchObject({
    detail: expect.stringMatching(/busy \(gave up after \d+ attempts/) as string,
  });
  const people = await run('enroll', '--join-file', one.joinFile, '--out', one.dir, '--timeout', '1');
  expect(people.stderr).toMatch(/busy; trying again in/);
});

test('an answer without end is cut off', async () => {
  const { server } = await startAuthority();
  server.intercept = () => ({ status: 200, body: `{"chain":["${'A'.repeat(2_000_000)}"]}` });
  const { code, stderr } = await workload(server).enroll();
  expect(code).toBe(1);
  expect(JSON.parse(stderr)).toMatchObject({
    code: 'denied-server',
    detail: expect.stringContaining('longer than 1048576') as string,
  });
});

test.each([
  ['no JSON', 'hello'],
  ['no object', '[]'],
  ['an empty object', '{}'],
])('%s for an answer is refused', async (_name, body) => {
  const { server } = await startAuthority();
  server.intercept = () => ({ status: 200, body });
  expect(JSON.parse((await workload(server).enroll()).stderr)).toMatchObject({ code: 'denied-server' });
});

describe('clocks', () => {
  test('a skew is named from 30 s on', async () => {
    const { server } = await startAuthority();
    server.clockOffsetMs = 45_000;
    const behind = await workload(server).enroll();
    expect(behind.code).toBe(0);
    expect(behind.stderr).toMatch(/this machine's clock is 4\d s behind the server's/);
    server.clockOffsetMs = -45_000;
    expect((await workload(server).enroll()).stderr).toMatch(/clock is 4\d s ahead of the server's/);
    server.clockOffsetMs = 10_000;
    expect((await workload(server).enroll()).stderr).toBe('');
  });

  test('where the skew breaks something, the failure says so', async () => {
    const { server } = await startAuthority();
    server.clockOffsetMs = 3_600_000;
    const { code, stderr } = await workload(server).enroll();
    expect(code).toBe(1);
    const problemLine = JSON.parse(stderr.trim().split('\n').at(-1) ?? '') as {
      code: string;
      detail: string;
    };
    expect(problemLine.code).toBe('denied-certificate');
    expect(problemLine.detail).toMatch(
      /not valid yet.*\(this machine's clock is (1 h 0 min|59 min) behind the server's: set it right first\)/,
    );
  });

  test('in words', () => {
    expect(describeSkew(29_000)).toBeUndefined();
    expect(describeSkew(-31_000)).toBe('31 s behind');
    expect(describeSkew(300_000)).toBe('5 min ahead of');
    expect(describeSkew(-3_660_000)).toBe('1 h 1 min behind');
    expect(describeSkew(10 * 86_400_000)).toBe('10 d ahead of');
  });

  test('the renewal window is kept in time of this machine', async () => {
    const { server } = await startAuthority();
    server.renewal = { earliestSeconds: 100, latestSeconds: 200 };
    const one = workload(server);
    const before = Date.now();
    await one.enroll();
    const { renewal } = JSON.parse(readFileSync(join(one.dir, 'agent.json'), 'utf8')) as {
      renewal: { earliestMs: number; latestMs: number };
    };
    expect(renewal.earliestMs).toBeGreaterThanOrEqual(before + 100_000);
    expect(renewal.latestMs).toBeLessThanOrEqual(Date.now() + 200_000);
  });
});
