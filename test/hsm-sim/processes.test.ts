import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { simulatedToken } from '../support/hsm-sim.ts';
import { type ChildClient, childClient } from './child-client.ts';
import { type Client, openClient, openSession, outcome } from './client.ts';

const token = simulatedToken();
let client: Client;
const children: ChildClient[] = [];

beforeAll(() => {
  client = openClient(token.hsm);
  client.makeKey('01');
});

afterEach(() => {
  token.calm();
  for (const { child } of children.splice(0)) child.kill('SIGKILL');
});

function start(signatures: number, threads = 1): ChildClient {
  const child = childClient(token.hsm, '01', signatures, threads);
  children.push(child);
  return child;
}

async function wrote(child: ChildClient, ...lines: string[]): Promise<void> {
  await expect.poll(() => child.lines(), { timeout: 15_000 }).toEqual(lines);
}

describe('a crash', () => {
  it.each([
    ['segv', 'SIGSEGV'],
    ['abort', 'SIGABRT'],
  ] as const)('by %s ends the process, once over all processes', async (crash, signal) => {
    token.control([{ on: 'C_Sign', do: { crash }, nth: 2 }]);
    const first = start(3);
    expect(await first.ended).toBe(signal);
    expect(first.lines()).toEqual(['open', 'ok']);
    await wrote(start(3), 'open', 'ok', 'ok', 'ok');
    expect(token.fired()).toEqual([1]);
  });
});

describe('a hang', () => {
  it('lasts until the rule goes; then the call is done', async () => {
    token.control([{ on: 'C_Sign', do: 'hang', nth: 1 }]);
    const child = start(2);
    await wrote(child, 'open');
    await expect.poll(() => token.fired(), { timeout: 15_000 }).toEqual([1]);
    expect(child.lines()).toEqual(['open']);
    token.calm();
    await wrote(child, 'open', 'ok', 'ok');
  });

  it('ends with its time, too', async () => {
    token.control([{ on: 'C_Sign', do: 'hang', for: 1500 }]);
    const start_ = performance.now();
    expect(outcome(() => client.sign('01'))).toBe('ok');
    expect(performance.now() - start_).toBeGreaterThan(1400);
  });
});

describe('counters', () => {
  it('live across processes that come and go', async () => {
    token.control([{ on: 'C_Sign', do: { error: 'CKR_DEVICE_ERROR' }, nth: 4 }]);
    for (const expected of [
      ['open', 'ok', 'ok'],
      ['open', 'ok', 'CKR_DEVICE_ERROR'],
      ['open', 'ok', 'ok'],
    ]) {
      const child = start(2);
      await wrote(child, ...expected);
      child.finish();
      expect(await child.ended).toBe(0);
    }
  });

  it('lose nothing where processes sign at once', async () => {
    token.control([{ on: 'C_Sign', do: { error: 'CKR_DEVICE_ERROR' }, every: 10 }]);
    const both = [start(200), start(200)];
    for (const child of both) await expect.poll(() => child.lines().length, { timeout: 50_000 }).toBe(201);
    const failed = both.flatMap((child) => child.lines()).filter((line) => line === 'CKR_DEVICE_ERROR');
    expect(failed).toHaveLength(40);
    expect(token.fired()).toEqual([40]);
  });
});

describe('threads of one process', () => {
  it('sign at once, each with its session, while rules come and go; the log has each signature once', async () => {
    const before = token.signatures().length;
    const child = start(300, 4);
    const faults = ['CKR_DEVICE_ERROR', 'CKR_SESSION_CLOSED', 'CKR_FUNCTION_FAILED'];
    const total = 4 * 301;
    for (let round = 0; child.lines().length < total; round += 1) {
      const error = faults[round % faults.length] as string;
      token.control([
        { on: ['C_SignInit', 'C_Sign', 'C_FindObjects'], do: { error }, p: 0.05 },
        { on: '*', do: { delay: 0.1, jitter: 0.2 }, every: 3 },
      ]);
      await expect.poll(() => token.fired()[0] !== 0 || child.lines().length === total).toBe(true);
      token.calm();
      expect(child.child.exitCode).toBeNull();
    }
    const outcomes = child.lines().filter((line) => line !== 'open');
    expect(new Set(outcomes)).toEqual(new Set(['ok', ...faults]));
    const signed = token.signatures().slice(before);
    expect(signed).toHaveLength(outcomes.filter((line) => line === 'ok').length);
    expect(new Set(signed.map(({ data }) => data)).size).toBe(signed.length);
    child.finish();
    expect(await child.ended).toBe(0);
  });
});

describe('what is lost', () => {
  it('is lost to every process', async () => {
    const child = start(0);
    await wrote(child, 'open');
    const own = openSession(client.module, client.slot);
    token.control([{ on: 'C_Sign', do: 'lose-sessions', nth: 1 }]);
    await wrote(start(1), 'open', 'CKR_SESSION_HANDLE_INVALID');
    expect(outcome(() => client.module.C_GetSessionInfo(own))).toBe('CKR_SESSION_HANDLE_INVALID');
    token.calm();
    client.reopen();
    expect(outcome(() => client.sign('01'))).toBe('ok');
  });

  it('of places for sessions comes back with the death of the process that had them', async () => {
    token.control([{ token: { sessions: 3 } }]);
    const child = start(0);
    await wrote(child, 'open');
    const before = openSession(client.module, client.slot);
    expect(outcome(() => openSession(client.module, client.slot))).toBe('CKR_SESSION_COUNT');
    child.child.kill('SIGKILL');
    await child.ended;
    const after = openSession(client.module, client.slot);
    for (const session of [before, after]) client.module.C_CloseSession(session);
  });
});
