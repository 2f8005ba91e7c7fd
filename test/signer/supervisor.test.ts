import { signalTo } from '../support/signal.ts';
import { execFileSync } from 'node:child_process';
import { verify } from 'node:crypto';
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { openCheckpoint } from '../../src/log/note.ts';
import type { AppendItem, AppendResult } from '../../src/signer/port.ts';
import type { SignerTimes, SupervisedSigner } from '../../src/signer/supervisor.ts';
import {
  LiveLog,
  liveCertificate,
  liveCrl,
  liveRecord,
  type LiveSigner,
  liveSigner,
  startSigner,
} from './live.ts';

let live: LiveSigner;
let log: LiveLog;
let signer: SupervisedSigner;

/** Appends items, CRLs among them sent first. */
async function append(
  items: readonly (AppendItem & { tbs?: Buffer })[],
  through = signer,
): Promise<AppendResult> {
  for (const { purpose, tbs } of items)
    if (purpose === 'crl' && tbs) await through.upload(live.ceremony.issuer.keyId, [tbs]);
  const firstIndex = log.commit(items);
  const auditPath = (index: number, treeSize: number) => log.auditPath(index, treeSize);
  const result = await through.append({ firstIndex, items, auditPath });
  if (result.checkpoint.treeSize >= Number(log.checkpoint?.split('\n')[1] ?? 0))
    log.checkpoint = result.checkpoint.note;
  return result;
}

function expectSigned(item: AppendItem & { tbs: Buffer }, signature: Buffer | Error | undefined): void {
  if (!Buffer.isBuffer(signature)) throw new Error(`not signed: ${String(signature)}`);
  expect(verify('sha256', item.tbs, live.issuerKey, signature)).toBe(true);
}

beforeAll(async () => {
  live = await liveSigner();
  log = new LiveLog(live);
  signer = startSigner(log);
  log.checkpoint = (await signer.ready()).note;
});

afterAll(() => signer.close());

describe('a signer process with SoftHSM', () => {
  it('signs certificates, CRLs and checkpoints that OpenSSL verifies', async () => {
    const items = [liveCertificate(live), liveCrl(live), liveCertificate(live, 'billing')];
    const { signatures, checkpoint } = await append([liveRecord(), ...items]);
    expect(signatures[0]).toBeUndefined();
    for (const [index, item] of items.entries()) expectSigned(item, signatures[index + 1]);
    const opened = openCheckpoint(checkpoint.note, [live.logKey], live.logKey.name);
    expect(opened.treeSize).toBe(log.leaves.length);
    expect(opened.rootHash).toEqual(log.root());
    const { state, pid, lastSuccessMs, problem } = signer.status();
    expect({ state, problem }).toEqual({ state: 'usable', problem: undefined });
    expect(pid).toBeGreaterThan(0);
    expect(systemClock.now() - (lastSuccessMs ?? 0)).toBeLessThan(10_000);
  });

  it('is a process of its own, with no secret in its command line or environment, and dumps no core (I8)', () => {
    const pid = signer.status().pid;
    expect(pid).not.toBe(process.pid);
    const environ = readFileSync(`/proc/${pid}/environ`, 'latin1');
    const cmdline = readFileSync(`/proc/${pid}/cmdline`, 'latin1');
    expect(environ + cmdline).not.toContain(live.token.pin);
    const names = environ
      .split('\0')
      .filter(Boolean)
      .map((one) => one.split('=')[0]);
    expect(
      names.filter(
        (name) =>
          ![
            'PATH',
            'TZ',
            'PWD',
            'SHLVL',
            '_',
            'OLDPWD',
            'SOFTHSM2_CONF',
            'NODE_COMPILE_CACHE',
            'CREDENTIALS_DIRECTORY',
          ].includes(name ?? ''),
      ),
    ).toEqual([]);
    expect(readFileSync(`/proc/${pid}/limits`, 'utf8')).toMatch(/Max core file size +0 +/);
    expect(JSON.stringify(live.said)).not.toContain(live.token.pin);
  });

  it('loads the PKCS#11 module where this process does not', () => {
    expect(readFileSync(`/proc/${signer.status().pid}/maps`, 'utf8')).toContain('libsofthsm2.so');
    expect(readFileSync('/proc/self/maps', 'utf8')).not.toContain('softhsm');
    expect(readFileSync('/proc/self/maps', 'utf8')).not.toContain('pkcs11');
  });

  it('signs many batches at once, each with its own checkpoint', async () => {
    const batches = Array.from({ length: 30 }, () => Array.from({ length: 10 }, () => liveCertificate(live)));
    const results = await Promise.all(batches.map((items) => append(items)));
    for (const [at, items] of batches.entries()) {
      const result = results[at];
      for (const [index, item] of items.entries()) expectSigned(item, result?.signatures[index]);
      expect(result?.checkpoint.rootHash).toEqual(log.rootAt(result?.checkpoint.treeSize ?? 0));
    }
  });

  it('refuses an item and signs the others', async () => {
    const bad: AppendItem = { ...liveCertificate(live, 'vouch/server') };
    const good = liveCertificate(live);
    const { signatures } = await append([bad, good]);
    expect(signatures[0]).toMatchObject({ code: 'policy-names' });
    expectSigned(good, signatures[1]);
  });
});

describe('kill -9', () => {
  it('loses no signature that was under way, and none of the tree', async () => {
    for (let round = 0; round < 5; round += 1) {
      const before = signer.status().restarts;
      const batches = Array.from({ length: 12 }, () => [liveCertificate(live), liveRecord()] as const);
      const pending = batches.map((items) => append(items));
      await new Promise((resolve) => setTimeout(resolve, round * 3));
      signalTo(signer.status().pid, 'SIGKILL');
      const late = append([liveCertificate(live)]);
      const results = await Promise.all([...pending, late]);
      for (const [at, items] of batches.entries()) {
        expectSigned(items[0], results[at]?.signatures[0]);
        expect(results[at]?.checkpoint.rootHash).toEqual(log.rootAt(results[at]?.checkpoint.treeSize ?? 0));
      }
      expect(signer.status().restarts).toBe(before + 1);
    }
  });

  it('is over in less than 300 ms', async () => {
    const times: number[] = [];
    const nodeTimes: number[] = [];
    for (let round = 0; round < 3; round += 1) {
      const start = performance.now();
      signalTo(signer.status().pid, 'SIGKILL');
      await expect.poll(() => signer.status().state, { interval: 2 }).toBe('degraded');
      const item = liveCertificate(live);
      expectSigned(item, (await append([item])).signatures[0]);
      times.push(performance.now() - start);
      const empty = performance.now();
      execFileSync(process.execPath, ['-e', '0']);
      nodeTimes.push(performance.now() - empty);
    }
    // An empty Node process takes 30 ms where nothing else runs; where much does, both take longer.
    const limitMs = Math.max(300, 10 * Math.min(...nodeTimes));
    expect(Math.min(...times)).toBeLessThan(limitMs);
  });

  it('keeps CRL numbers', async () => {
    const crl = liveCrl(live);
    await append([crl]);
    signalTo(signer.status().pid, 'SIGKILL');
    await expect.poll(() => signer.status().state).toBe('degraded');
    const { signatures } = await append([liveCrl(live, (BigInt(systemClock.now()) * 9n) / 10n)]);
    expect(signatures[0]).toMatchObject({ code: 'policy-lint' });
  });

  it('signs again, on request, what was lost: the same bytes', async () => {
    const item = liveCertificate(live);
    const index = log.commit([item]);
    signalTo(signer.status().pid, 'SIGKILL');
    await expect.poll(() => signer.status().state).toBe('usable');
    const lost = { ...item, purpose: 'certificate' as const, index, path: [], treeSize: 0 };
    await expect
      .poll(async () => verify('sha256', item.tbs, live.issuerKey, await signer.signLogged(lost)))
      .toBe(true);
    const other = { ...lost, leaf: liveCertificate(live).leaf };
    await expect(signer.signLogged(other)).rejects.toMatchObject({ code: 'integrity-log' });
  });
});

/** Another supervisor over the same log. */
async function restarted(limits: Partial<SignerTimes> = {}): Promise<void> {
  await signer.close();
  signer = startSigner(log, { limits });
  await signer.ready();
}

describe('a signer that hangs', () => {
  it('is replaced, and the call that met it is served within three seconds, the best of three', async () => {
    // The deadline is three times the real one: how quickly a process starts is the machine's.
    await restarted({ deadlineMs: 9000 });
    let bestMs = Number.POSITIVE_INFINITY;
    for (let round = 0; round < 3 && bestMs >= 3000; round += 1) {
      await expect.poll(() => signer.status().state, { timeout: 10_000 }).toBe('usable');
      const { pid, restarts } = signer.status();
      signalTo(pid, 'SIGSTOP');
      const start = performance.now();
      const item = liveCertificate(live);
      expectSigned(item, (await append([item])).signatures[0]);
      bestMs = Math.min(bestMs, performance.now() - start);
      expect(signer.status().restarts).toBe(restarts + 1);
      const isGone = () =>
        !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ');
      expect(isGone()).toBe(true);
    }
    expect(bestMs).toBeLessThan(3000);
  });

  it('is noticed while nothing is asked of it', async () => {
    const { pid, restarts } = signer.status();
    signalTo(pid, 'SIGSTOP');
    await expect.poll(() => signer.status().restarts, { timeout: 10_000 }).toBe(restarts + 1);
    await expect.poll(() => signer.status().state, { timeout: 10_000 }).toBe('usable');
  });
});

describe('a token that is away', () => {
  it('costs the calls of that time alone, and nothing needs a restart', async () => {
    await restarted();
    const { dir } = live.token;
    const [inside = ''] = readdirSync(join(dir, 'tokens'));
    renameSync(join(dir, 'tokens', inside), join(dir, 'away'));
    signalTo(signer.status().pid, 'SIGKILL');
    const lost = liveCertificate(live);
    const start = performance.now();
    await expect(append([lost])).rejects.toMatchObject({
      code: 'unavailable-signer',
      retryAfterSeconds: expect.any(Number),
    });
    expect(performance.now() - start).toBeGreaterThan(2900);
    expect(performance.now() - start).toBeLessThan(9000);
    expect(signer.status()).toMatchObject({
      state: 'degraded',
      problem: expect.stringMatching(/shows no token online/),
    });
    const survivor = liveCertificate(live);
    const pending = append([survivor]);
    await new Promise((resolve) => setTimeout(resolve, 500));
    renameSync(join(dir, 'away'), join(dir, 'tokens', inside));
    expectSigned(survivor, (await pending).signatures[0]);
    expect(signer.status().state).toBe('usable');
  });
});

describe('closing', () => {
  it('writes the marks and refuses what comes later', async () => {
    await append([liveRecord()]);
    await signer.close();
    await signer.close();
    const floor = JSON.parse(readFileSync(join(live.stateDir, 'signer/floor.json'), 'utf8')) as Record<
      string,
      unknown
    >;
    expect(floor.treeSize).toBe(log.leaves.length);
    expect(floor.rootHash).toBe(log.root().toString('hex'));
    await expect(
      signer.append({ firstIndex: log.leaves.length, items: [liveRecord()] }),
    ).rejects.toMatchObject({ code: 'unavailable-stopping' });
    expect(readdirSync(join(live.stateDir, 'signer')).sort()).toEqual(['authority.json', 'floor.json']);
    signer = startSigner(log);
    expect((await signer.ready()).treeSize).toBe(log.leaves.length);
  });
});

describe('a server that cannot take up the checkpoint', () => {
  it('has no usable signer, and no process is left of it', async () => {
    const children = () =>
      readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ').length;
    const before = children();
    await signer.close();
    let refusals = 0;
    const own = startSigner(log, {
      onResumed: () => {
        refusals += 1;
        if (refusals < 3) throw new Error('disk full');
      },
    });
    await own.ready();
    expect(refusals).toBe(3);
    await expect.poll(children).toBe(before);
    await own.close();
    signer = startSigner(log);
    await signer.ready();
  });
});

describe('a start that must fail', () => {
  let own: SupervisedSigner | undefined;

  afterEach(async () => {
    await own?.close();
    own = undefined;
  });

  it('for a state put back: unusable, and not tried again (I11)', async () => {
    const saved = { leaves: log.leaves.length, note: log.checkpoint };
    await append([liveRecord(), liveRecord()]);
    await signer.close();
    const old = new LiveLog(live);
    old.commit(log.leaves.slice(0, saved.leaves).map((leaf) => ({ purpose: 'record', leaf })));
    old.checkpoint = saved.note;
    own = startSigner(old);
    await expect(own.ready()).rejects.toMatchObject({ code: 'integrity-rewind' });
    expect(own.status()).toMatchObject({ state: 'unusable', problem: expect.stringMatching(/put back/) });
    await expect(own.append({ firstIndex: saved.leaves, items: [liveRecord()] })).rejects.toMatchObject({
      code: 'integrity-rewind',
    });
    await own.close();
    signer = startSigner(log);
    expect((await signer.ready()).treeSize).toBe(log.leaves.length);
  });

  it('for a new genesis over an old token (I10)', async () => {
    const fresh = new LiveLog(live);
    await signer.close();
    own = startSigner(fresh);
    await expect(own.ready()).rejects.toMatchObject({ code: 'integrity-rewind' });
    await own.close();
    const floor = join(live.stateDir, 'signer/floor.json');
    renameSync(floor, `${floor}.away`);
    own = startSigner(fresh);
    await expect(own.ready()).rejects.toMatchObject({ code: 'integrity-state' });
    await own.close();
    own = startSigner(log);
    await expect(own.ready()).rejects.toMatchObject({ code: 'integrity-state' });
    renameSync(`${floor}.away`, floor);
  });

  it('for a PIN file that others can read, until they cannot (I8)', async () => {
    const { pinFile } = live.token.hsm;
    for (const mode of [0o640, 0o604, 0o644, 0o660]) {
      chmodSync(pinFile, mode);
      own = startSigner(log);
      await expect(own.ready()).rejects.toMatchObject({ code: 'config-secret-readable' });
      await own.close();
    }
    own = startSigner(log);
    await expect(own.ready()).rejects.toMatchObject({ code: 'config-secret-readable' });
    chmodSync(pinFile, 0o600);
    await expect.poll(() => own?.status().state, { timeout: 5000 }).toBe('usable');
  });

  it('for a wrong PIN, which is presented once and never again before its file is replaced (I8)', async () => {
    const { pinFile } = live.token.hsm;
    const right = readFileSync(pinFile);
    rmSync(pinFile);
    writeFileSync(pinFile, 'wrong-pin\n', { mode: 0o600 });
    for (let start = 0; start < 4; start += 1) {
      own = startSigner(log);
      // Who asks meanwhile is no operator: an agent comes again.
      const asked = own.append({ firstIndex: 0, items: [] });
      await expect(asked).rejects.toMatchObject({ code: 'unavailable-signer', retryAfterSeconds: 30 });
      await expect(own.ready()).rejects.toMatchObject({ code: 'config-pin' });
      expect(own.status().state).toBe('unusable');
      await expect(own.append({ firstIndex: 0, items: [] })).rejects.toMatchObject({
        code: 'unavailable-signer',
      });
      expect(own.status().problem).toMatch(/; then `vouch doctor --retry-signer`$/);
      await own.close();
    }
    // One refusal by the token; the others by the note beside the floor.
    const refusals = live.said.filter(({ fields }) => /CKR_PIN_INCORRECT/.test(String(fields.problem)));
    expect(refusals.filter(({ message }) => message === 'the signer cannot start')).toHaveLength(1);
    expect(JSON.parse(readFileSync(join(live.stateDir, 'signer/pin-refused'), 'utf8'))).toMatchObject({
      path: pinFile,
    });
    expect(JSON.stringify(live.said)).not.toContain('wrong-pin');

    rmSync(pinFile);
    writeFileSync(pinFile, right, { mode: 0o600 });
    own = startSigner(log);
    await own.ready();
    expect(existsSync(join(live.stateDir, 'signer/pin-refused'))).toBe(false);
  });

  it('for a missing module or token, in words that help', async () => {
    const configured = readFileSync(live.configFile);
    const broken: [object, RegExp][] = [
      [{ module: '/nowhere/module.so' }, /no PKCS#11 module .*softhsm2/],
      [{ module: live.configFile }, /not a PKCS#11 module/],
      [{ tokenSerial: '0000000000000000' }, /shows no token online .*it shows online/],
      [{ tokenLabel: 'other' }, /shows no token other/],
      [{ pinFile: '/nowhere/pin' }, /cannot open the PIN file/],
      [{ pinFile: 'credential:pin' }, /LoadCredential=pin/],
    ];
    for (const [override, why] of broken) {
      writeFileSync(
        live.configFile,
        JSON.stringify({ ...live.config, hsm: { ...live.config.hsm, ...override } }),
      );
      own = startSigner(log);
      await expect(own.ready()).rejects.toMatchObject({
        code: 'config-hsm',
        message: expect.stringMatching(why),
      });
      expect(own.status().state).toBe('probing');
      await own.close();
    }
    writeFileSync(live.configFile, configured);
  });
});
