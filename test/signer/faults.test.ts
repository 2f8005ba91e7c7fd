import { signalTo } from '../support/signal.ts';
import { spawn } from 'node:child_process';
import { verify } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { decodeLeaf } from '../../src/log/leaf.ts';
import { openCheckpoint } from '../../src/log/note.ts';
import type { AppendItem } from '../../src/signer/port.ts';
import type { SupervisedSigner } from '../../src/signer/supervisor.ts';
import { temporaryFolder } from '../support/hsm.ts';
import {
  type Misbehaviour,
  orphanSignatures,
  type SimulatedToken,
  simulatedToken,
} from '../support/hsm-sim.ts';
import { LiveLog, liveCertificate, liveRecord, type LiveSigner, liveSigner, startSigner } from './live.ts';
import { limitMs } from '../support/limits.ts';

const folder = temporaryFolder('faults');
let token: SimulatedToken;
let live: LiveSigner;
/** Signatures of the ceremony, which made the log. */
let before: number;
let log: LiveLog;
let signer: SupervisedSigner;

async function append(items: AppendItem[]) {
  const firstIndex = log.commit(items);
  const result = await signer.append({ firstIndex, items });
  log.checkpoint = result.checkpoint.note;
  return result;
}

async function expectServed(): Promise<void> {
  const items = Array.from({ length: 4 }, () => liveCertificate(live));
  const { signatures } = await append([...items, liveRecord()]);
  for (const [index, item] of items.entries()) {
    const signature = signatures[index];
    expect(Buffer.isBuffer(signature) && verify('sha256', item.tbs, live.issuerKey, signature)).toBe(true);
  }
}

beforeAll(async () => {
  token = simulatedToken('online', { dir: folder });
  live = await liveSigner({}, token);
  before = token.signatures().length;
  log = new LiveLog(live);
  signer = startSigner(log);
  log.checkpoint = (await signer.ready()).note;
});

/** The next signature, and no other, goes wrong in this way. */
function once(behaviour: Misbehaviour): void {
  token.control([{ on: 'C_Sign', do: behaviour, nth: 1 }]);
}

afterEach(() => token.calm());
afterAll(() => signer.close());

describe('a fault of the token under a signature', () => {
  it.each([
    'CKR_SESSION_HANDLE_INVALID',
    'CKR_SESSION_CLOSED',
    'CKR_KEY_HANDLE_INVALID',
    'CKR_OBJECT_HANDLE_INVALID',
    'CKR_USER_NOT_LOGGED_IN',
  ])('%s costs a new session, or a login, and nothing else', async (error) => {
    const { restarts, pid } = signer.status();
    once({ error });
    await expectServed();
    expect(token.fired()).toEqual([1]);
    expect(signer.status()).toMatchObject({ restarts, pid });
  });

  it.each([
    'CKR_DEVICE_ERROR',
    'CKR_DEVICE_REMOVED',
    'CKR_GENERAL_ERROR',
    'CKR_FUNCTION_FAILED',
    'CKR_HOST_MEMORY',
    'CKR_TOKEN_NOT_PRESENT',
    'CKR_CRYPTOKI_NOT_INITIALIZED',
    '0x80000001',
  ])('%s costs a process, and no call', async (error) => {
    const { restarts } = signer.status();
    once({ error });
    await expectServed();
    expect(signer.status().restarts).toBe(restarts + 1);
  });

  it('a crash of the module costs a process, and no call', async () => {
    const { restarts } = signer.status();
    once({ crash: 'segv' });
    await expectServed();
    expect(signer.status().restarts).toBe(restarts + 1);
  });

  it('a call that hangs costs a process, and no call', async () => {
    const { restarts } = signer.status();
    once('hang');
    const start = performance.now();
    await expectServed();
    expect(performance.now() - start).toBeLessThan(limitMs(3000));
    expect(signer.status().restarts).toBe(restarts + 1);
  });

  it('a wrong signature over a checkpoint is made again before it leaves the signer', async () => {
    const { restarts } = signer.status();
    token.control([{ on: 'C_Sign', do: 'flip', nth: 1, id: live.ceremony.logKey.ckaId }]);
    const { checkpoint } = await append([liveCertificate(live)]);
    expect(token.fired()).toEqual([1]);
    expect(openCheckpoint(checkpoint.note, [live.logKey], live.logKey.name).rootHash).toEqual(log.root());
    expect(signer.status().restarts).toBe(restarts);
  });

  it('a wrong signature at the start is not taken for a proof', async () => {
    token.control([{ on: 'C_Sign', do: 'flip' }]);
    signalTo(signer.status().pid, 'SIGKILL');
    await expect(append([liveCertificate(live)])).rejects.toMatchObject({ code: 'unavailable-signer' });
    expect(signer.status()).toMatchObject({
      state: 'degraded',
      problem: expect.stringMatching(/does not verify/),
    });
    token.calm();
    await expect.poll(() => signer.status().state, { timeout: 5000 }).toBe('usable');
    await expectServed();
  });

  it('that stays ends calls at their deadline, with a time to come back, and ends with the fault', async () => {
    token.control([{ on: 'C_Sign', do: { error: 'CKR_DEVICE_ERROR' } }]);
    const start = performance.now();
    const calls = [append([liveCertificate(live)]), append([liveRecord()])];
    for (const call of calls)
      await expect(call).rejects.toMatchObject({
        code: 'unavailable-signer',
        retryAfterSeconds: expect.any(Number),
      });
    expect(performance.now() - start).toBeLessThan(limitMs(3500));
    expect(signer.status().state).toBe('degraded');
    token.calm();
    await expect.poll(() => signer.status().state, { timeout: 5000 }).toBe('usable');
    await expectServed();
  });
});

describe('what the token signed through all of this', () => {
  const issuer = () => live.ceremony.issuer;

  it('is in the log, each of it (I1)', () => {
    const signatures = token.signatures().slice(before);
    expect(signatures.filter(({ ckaId }) => ckaId === issuer().ckaId).length).toBeGreaterThan(50);
    expect(orphanSignatures(signatures, issuer(), { leaves: log.leaves })).toEqual([]);
  });

  it('would show one signature that is not (I1)', () => {
    const signatures = token.signatures().slice(before);
    const certificates = log.leaves.filter((leaf) => decodeLeaf(leaf).type === 'certificate');
    const leaves = log.leaves.filter((leaf) => leaf !== certificates[5]);
    expect(orphanSignatures(signatures, issuer(), { leaves }).length).toBeGreaterThan(0);
  });
});

describe('a token that hangs while a listening signer starts', () => {
  it('ends the process, so that whoever keeps it starts another', async () => {
    await signer.close();
    const configFile = join(folder, 'listening.json');
    const config = JSON.parse(readFileSync(live.configFile, 'utf8')) as object;
    writeFileSync(configFile, JSON.stringify({ ...config, startMs: 500 }));
    once('hang');
    const args = [live.entry, 'signer', '--config', configFile, '--listen', join(folder, 'sock')];
    const child = spawn(process.execPath, args, { env: { PATH: process.env.PATH }, stdio: 'ignore' });
    onTestFinished(() => void child.kill('SIGKILL'));
    const signal = await new Promise((done) => child.once('exit', (_code, by) => done(by)));
    expect(signal).toBe('SIGKILL');
  });
});
