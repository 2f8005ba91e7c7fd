import { signalTo } from '../support/signal.ts';
import { execFileSync, spawn } from 'node:child_process';
import { verify } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { AppendItem } from '../../src/signer/port.ts';
import type { SupervisedSigner } from '../../src/signer/supervisor.ts';
import { temporaryFolder } from '../support/hsm.ts';
import { LiveLog, liveCertificate, liveRecord, type LiveSigner, liveSigner, startSigner } from './live.ts';

const folder = temporaryFolder('faults');
const control = join(folder, 'control');
let live: LiveSigner;
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
  live = await liveSigner();
  const module = join(folder, 'faulty.so');
  const source = resolve(import.meta.dirname, 'faulty-module.c');
  const headers = resolve(import.meta.dirname, '../../node_modules/pkcs11js/includes/pkcs11');
  execFileSync('gcc', ['-shared', '-fPIC', '-O1', '-I', headers, '-o', module, source, '-ldl']);
  const environment = {
    ...live.token.hsm.environment,
    FAULTY_MODULE: live.token.hsm.module,
    FAULTY_CONTROL: control,
  };
  const hsm = { ...live.config.hsm, module, environment };
  writeFileSync(live.configFile, JSON.stringify({ ...live.config, hsm }));
  log = new LiveLog(live);
  signer = startSigner(log);
  log.checkpoint = (await signer.ready()).note;
});

afterEach(() => rmSync(control, { force: true }));
afterAll(() => signer.close());

describe('a fault of the token under a signature', () => {
  it.each([
    ['CKR_SESSION_HANDLE_INVALID', 'b3'],
    ['CKR_SESSION_CLOSED', 'b0'],
    ['CKR_KEY_HANDLE_INVALID', '60'],
    ['CKR_OBJECT_HANDLE_INVALID', '82'],
  ])('%s costs a new session and nothing else', async (_name, code) => {
    const { restarts, pid } = signer.status();
    writeFileSync(control, code);
    await expectServed();
    expect(existsSync(control)).toBe(false);
    expect(signer.status()).toMatchObject({ restarts, pid });
  });

  it.each([
    ['CKR_DEVICE_ERROR', '30'],
    ['CKR_DEVICE_REMOVED', '32'],
    ['CKR_GENERAL_ERROR', '5'],
    ['CKR_FUNCTION_FAILED', '6'],
    ['CKR_HOST_MEMORY', '2'],
    ['CKR_TOKEN_NOT_PRESENT', 'e0'],
    ['CKR_USER_NOT_LOGGED_IN', '101'],
    ['CKR_CRYPTOKI_NOT_INITIALIZED', '190'],
    ['a code of the vendor', '80000001'],
  ])('%s costs a process, and no call', async (_name, code) => {
    const { restarts } = signer.status();
    writeFileSync(control, code);
    await expectServed();
    expect(signer.status().restarts).toBe(restarts + 1);
  });

  it('a crash of the module costs a process, and no call', async () => {
    const { restarts } = signer.status();
    writeFileSync(control, 'crash');
    await expectServed();
    expect(signer.status().restarts).toBe(restarts + 1);
  });

  it('a call that hangs costs a process, and no call', async () => {
    const { restarts } = signer.status();
    writeFileSync(control, 'hang');
    const start = performance.now();
    await expectServed();
    expect(performance.now() - start).toBeLessThan(3000);
    expect(signer.status().restarts).toBe(restarts + 1);
  });

  it('a wrong signature at the start is not taken for a proof', async () => {
    writeFileSync(control, 'always flip');
    signalTo(signer.status().pid, 'SIGKILL');
    await expect(append([liveCertificate(live)])).rejects.toMatchObject({ code: 'unavailable-signer' });
    expect(signer.status()).toMatchObject({
      state: 'degraded',
      problem: expect.stringMatching(/does not verify/),
    });
    rmSync(control);
    await expect.poll(() => signer.status().state, { timeout: 5000 }).toBe('usable');
    await expectServed();
  });

  it('that stays ends calls at their deadline, with a time to come back, and ends with the fault', async () => {
    writeFileSync(control, 'always 30');
    const start = performance.now();
    const calls = [append([liveCertificate(live)]), append([liveRecord()])];
    for (const call of calls)
      await expect(call).rejects.toMatchObject({
        code: 'unavailable-signer',
        retryAfterSeconds: expect.any(Number),
      });
    expect(performance.now() - start).toBeLessThan(3500);
    expect(signer.status().state).toBe('degraded');
    rmSync(control);
    await expect.poll(() => signer.status().state, { timeout: 5000 }).toBe('usable');
    await expectServed();
  });
});

describe('a token that hangs while a listening signer starts', () => {
  it('ends the process, so that whoever keeps it starts another', async () => {
    await signer.close();
    const configFile = join(folder, 'listening.json');
    const config = JSON.parse(readFileSync(live.configFile, 'utf8')) as object;
    writeFileSync(configFile, JSON.stringify({ ...config, startMs: 500 }));
    writeFileSync(control, 'hang');
    const args = [live.entry, 'signer', '--config', configFile, '--listen', join(folder, 'sock')];
    const child = spawn(process.execPath, args, { env: { PATH: process.env.PATH }, stdio: 'ignore' });
    onTestFinished(() => void child.kill('SIGKILL'));
    const signal = await new Promise((done) => child.once('exit', (_code, by) => done(by)));
    expect(signal).toBe('SIGKILL');
  });
});
