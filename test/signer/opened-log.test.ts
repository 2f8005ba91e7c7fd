// A signer that was away while a restore opened another log follows by the root's statement, also where it is killed
// on the way: authority.json names the new log then, and every mark is still the old one's.
import { sign } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { Frontier, hashLeaf } from '../../src/log/merkle.ts';
import { assembleStatement, statementSigningInput } from '../../src/log/statement.ts';
import { encodeAuthority } from '../../src/signer/authority-file.ts';
import { decodeCheckpoint, protocolVersion } from '../../src/signer/protocol.ts';
import { openRuntime, type SignerRuntime } from '../../src/signer/runtime.ts';
import { SignerService } from '../../src/signer/service.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import { FakeClock } from '../fakes/clock.ts';
import { codeOf } from '../invariants/support/refusal.ts';
import { newLogKey, signedCheckpoint } from '../log/log-keys.ts';
import { temporaryFolder } from '../support/hsm.ts';
import { nowMs, recordItem, spkiOf, testAuthority } from './fixture.ts';

const origin = 'test.example/vouch-log-7';
const other = newLogKey(origin);
const { algorithm, publicKeySpki } = other.key;
const test = testAuthority({ otherLogKeys: [{ algorithm, publicKeySpki }] });
const rootSpki = spkiOf(test.root.publicKey);
const statement = statementOf();
const leaves = Array.from({ length: 9 }, () => recordItem(test).leaf);

let stateDir: string;
let service: SignerService;
let runtime: SignerRuntime;

function statementOf(): string {
  const logKeys = [test.authority.logKey, other.key].map((key) => ({ ...key, name: origin }));
  const { trustDomain } = test.authority;
  const said = { trustDomain, sequence: 7, notAfterMs: nowMs + 60_000, logKeys, publicationUrls: [] };
  const input = statementSigningInput(said, keyIdOf(rootSpki), 'ES256');
  const key = { key: test.root.privateKey, dsaEncoding: 'ieee-p1363' } as const;
  return assembleStatement(input, sign('sha256', Buffer.from(input, 'ascii'), key));
}

/** A new process: all that it knows is on disk and in the token. */
async function start(): Promise<void> {
  runtime = await openRuntime({
    config: {
      stateDir,
      hsm: { module: '', tokenLabel: '', tokenSerial: '', pinFile: '', environment: {} },
    },
    openHsm: () => Promise.resolve(test.hsm),
    clock: new FakeClock(nowMs),
    log: () => undefined,
    onFault: ({ error }) => {
      throw error;
    },
  });
  const started = runtime;
  onTestFinished(() => started.floor.stop());
  service = new SignerService(runtime, new FakeClock(nowMs));
  await service.handle({ op: 'hello', version: protocolVersion });
}

const open = () => service.handle({ op: 'openLog', statement, rootSpki });

/** Takes up the new log as the other log key has signed it. */
async function resume(): Promise<number> {
  const frontier = Frontier.empty();
  for (const leaf of leaves) frontier.append(hashLeaf(leaf));
  const checkpoint = signedCheckpoint([other], leaves.length, frontier.root());
  await service.handle({ op: 'resume', genesis: false, checkpoint, peaks: frontier.peaks() });
  return decodeCheckpoint(await service.handle({ op: 'resumed' })).treeSize;
}

beforeEach(async () => {
  stateDir = temporaryFolder('opened-log');
  mkdirSync(join(stateDir, 'signer'));
  writeFileSync(join(stateDir, 'signer', 'authority.json'), encodeAuthority(test.authority), { mode: 0o600 });
  await test.hsm.guards.replace(Buffer.from('{}'), await test.hsm.guards.read());
  await start();
  await service.handle({ op: 'resume', genesis: true, checkpoint: '', peaks: [] });
  await service.handle({ op: 'resumed' });
  await service.handle({ op: 'append', firstIndex: 0, items: [recordItem(test), recordItem(test)] });
  await service.handle({ op: 'stop' });
  await start();
});

it('is followed, and the signer knows it from then on', async () => {
  await open();
  expect(await resume()).toBe(leaves.length);
  await service.handle({ op: 'stop' });
  await start();
  expect(runtime.floor.highest()?.treeSize).toBe(leaves.length);
  expect(await resume()).toBe(leaves.length);
});

it('killed before it has a mark of that log, it follows by the same word again', async () => {
  await open();
  await start();
  expect(runtime.authority.logOrigin).toBe(origin);
  expect(await codeOf(resume)).toBe('integrity-state');
  await open();
  expect(await resume()).toBe(leaves.length);
});

it('with a mark of that log lost since, it does not (I11)', async () => {
  await open();
  const file = join(stateDir, 'signer', 'floor.json');
  const before = readFileSync(file);
  await resume();
  await service.handle({ op: 'stop' });
  writeFileSync(file, before);
  await start();
  await open();
  expect(await codeOf(resume)).toBe('integrity-state');
  rmSync(file);
  await start();
  await open();
  expect(await codeOf(resume)).toBe('integrity-state');
  // Nor with the guards gone as well: there is no mark of the log before.
  await test.hsm.guards.replace(Buffer.from('{}'), await test.hsm.guards.read());
  await start();
  await open();
  expect(await codeOf(resume)).toBe('integrity-state');
});
