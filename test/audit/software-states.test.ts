import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { verifyState } from '../../src/audit/verify-state.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { parseSerial } from '../../src/core/serial.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import { parseTbsCrl } from '../../src/x509/crl.ts';
import { joinedCrl } from '../../src/x509/crl-tbs.ts';
import { softwareCeremony } from '../ceremony/software-ceremony.ts';
import { eventually } from '../support/running.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { tampered } from './state-copies.ts';

// States that take a clock or a signer of our own to come to.

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let revocation: Revocation;

beforeEach(async () => {
  authority = await softwareAuthority();
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: () => undefined,
    alarm: () => undefined,
  });
  await publisher.start();
  await eventually(() => publisher.current().length === 18);
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
});
afterEach(async () => {
  await publisher.close();
  await authority.close();
});

function problemsOf(folder: string): string[] {
  const store = openSqliteStore(path.join(folder, 'vouch.db'), { readonly: true });
  try {
    return verifyState(store, undefined, () => undefined).problems;
  } finally {
    void store.close();
  }
}

async function revoked(name: string): Promise<string> {
  const { entry, tokenId } = await registered(authority, name);
  const { serial } = (await authority.issuance.issue(requestFor(entry, tokenId))).record;
  await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
  await authority.sequencer.storeSigned();
  const mark = authority.clockGuard.nextMark();
  if (mark) await authority.store.setClockMark(mark);
  return serial;
}

async function published(): Promise<void> {
  const numbers = () => publisher.current().map(({ crlNumber }) => crlNumber);
  const before = new Set(numbers());
  authority.clock.pass(61_000);
  publisher.publishAll(true);
  await eventually(() => numbers().every((number) => !before.has(number)));
  await authority.sequencer.storeSigned();
}

test('a revocation that rightly left its CRLs is no problem, one that left too early is', async () => {
  const old = await revoked('old');
  authority.clock.pass(2 * 3600_000);
  const young = await revoked('young');
  expect(problemsOf(authority.folder)).toEqual([]);
  await published();
  expect(problemsOf(authority.folder)).toEqual([]);
  await published();
  expect(authority.store.rows().revocations(-1, 9)[0]?.mayLeave).toBe(1);
  const full = authority.store.lastCrls(authority.issuer.keyId).find(({ scope }) => scope === 'full');
  expect(full && [...parseTbsCrl(joinedCrl(full.tbs)).revoked()].map(({ serial }) => serial)).toEqual([
    young,
  ]);
  expect(problemsOf(authority.folder)).toEqual([]);
  expect(
    authority.store
      .rows()
      .revocations(-1, 9)
      .map((row) => [row.serial, row.mayLeave]),
  ).toEqual([
    [old, 1],
    [young, 0],
  ]);
  const early = tampered(authority.folder, `UPDATE revocations SET may_leave = 1 WHERE serial = '${young}'`);
  expect(problemsOf(early).join()).toMatch(`the revocation of ${young}`);
  const late = tampered(authority.folder, `UPDATE revocations SET may_leave = 0 WHERE serial = '${old}'`);
  expect(problemsOf(late).join()).toMatch(old);
});

test('CRLs that the signer left unsigned, time and again, are no problem', async () => {
  const serial = await revoked('orders');
  authority.signer.corrupt = (signature) => Buffer.from(signature).fill(0, 8, 12);
  publisher.publishAll(true);
  const unsigned = () =>
    authority.store.crls().filter((crl) => !crl.signature && crl.issuerKeyId === authority.issuer.keyId);
  await eventually(() => unsigned().length > 0);
  await publisher.close();
  expect(problemsOf(authority.folder)).toEqual([]);
  const gone = tampered(authority.folder, `DELETE FROM revocations WHERE serial = '${serial}'`);
  expect(problemsOf(gone).some((problem) => problem.startsWith('CRL') && problem.includes(serial))).toBe(
    true,
  );
});

test('a key that was blocked after its revocation stays blocked, and no other is', async () => {
  const serial = await revoked('orders');
  const { issuerKeyId, spkiSha256 } = authority.store.certificatesBySerial(parseSerial(serial))[0] ?? {};
  const body = { verb: 'key-blocked', issuerKeyId, serial, operator: 'uid:0' };
  const leaf = recordLeaf('operator', authority.clock.now(), body);
  const index = await authority.sequencer.record({ kind: 'operator', leaf });
  expect(problemsOf(authority.folder)).toEqual([
    `leaf ${index} blocks the key of ${serial}, and the store does not`,
  ]);
  const ending = authority.store.revocation(issuerKeyId ?? '', parseSerial(serial))?.leafIndex;
  const blocking = (key: string | undefined) => `INSERT INTO blocked_keys VALUES ('${key}', ${ending})`;
  expect(problemsOf(tampered(authority.folder, blocking(spkiSha256)))).toEqual([]);
  expect(problemsOf(tampered(authority.folder, blocking('0'.repeat(64))))).toHaveLength(2);
});

test('a key that `vouch revoke` blocked after another reason is no problem, and one that nobody said to block is', async () => {
  const serial = parseSerial(await revoked('orders'));
  const other = authority.store.certificatesBySerial(parseSerial(await revoked('billing')))[0];
  const target = { by: 'serial', serial, only: false } as const;
  await revocation.revoke(target, 'keyCompromise', 'uid:0');
  await authority.sequencer.storeSigned();
  expect(problemsOf(authority.folder)).toEqual([]);
  const ending = authority.store.revocation(authority.issuer.keyId, other?.serial ?? serial)?.leafIndex;
  const more = tampered(
    authority.folder,
    `INSERT INTO blocked_keys VALUES ('${other?.spkiSha256}', ${ending})`,
  );
  expect(problemsOf(more)).toEqual([expect.stringContaining(`leaf ${ending} blocks no such key`)]);
});

test('a ceremony of the first version, whose leaves say no algorithm, had the one there was', async () => {
  const old = await softwareAuthority({ firstVersion: true });
  try {
    expect(problemsOf(old.folder)).toEqual([]);
    for (const kind of ['root', 'issuer'])
      expect(
        problemsOf(
          tampered(old.folder, `UPDATE authorities SET algorithm = 'ed25519' WHERE kind = '${kind}'`),
        ).join(),
      ).toMatch(/algorithm/);
  } finally {
    await old.close();
  }
});

test('a transcript that the root did not sign is found', async () => {
  const { files, root } = softwareCeremony(authority.clock.now());
  const [header = '', , signature = ''] = (files.get('transcript.jws') ?? '').toString().trim().split('.');
  const jws = `${header}.${files.get('transcript.json')?.toString('base64url')}.${signature}`;
  const ours = authority.store.authorities().find(({ kind }) => kind === 'root')?.keyId ?? '';
  for (const rootKeyId of [ours, root.keyId]) {
    const body = { event: 'transcript', rootKeyId, operator: 'uid:0', jws };
    await authority.sequencer.record({
      kind: 'operator',
      leaf: recordLeaf('authority', authority.clock.now(), body),
    });
  }
  await authority.sequencer.storeSigned();
  expect(problemsOf(authority.folder)).toEqual([
    expect.stringMatching(/the transcript of leaf \d+: .*not signed by this root/),
    expect.stringMatching(/the transcript of leaf \d+ is of a root that the store does not have/),
  ]);
});

test('an issuer that became another is followed by none of its certificates, and is in the log as such', async () => {
  const { store, issuer, sequencer } = authority;
  const { entry, tokenId } = await registered(authority);
  await authority.issuance.issue(requestFor(entry, tokenId));
  const record = store.authorities().find(({ keyId }) => keyId === issuer.keyId);
  if (!record) throw new Error('an issuer');
  const saying = (body: { readonly [member: string]: string }) =>
    recordLeaf('authority', authority.clock.now(), { event: 'state', keyId: issuer.keyId, ...body });
  const problems = async (): Promise<string[]> => {
    await sequencer.storeSigned();
    const mark = authority.clockGuard.nextMark();
    if (mark) await store.setClockMark(mark);
    return problemsOf(authority.folder);
  };
  const leaf = saying({ state: 'old' });
  await sequencer.record({ kind: 'authority', leaf, authority: { ...record, state: 'old' } });
  expect(await problems()).toEqual([]);
  const undone = tampered(authority.folder, "UPDATE authorities SET state = 'active' WHERE kind = 'issuer'");
  expect(problemsOf(undone)).toEqual([expect.stringContaining(`authority ${issuer.keyId}`)]);

  // What the transaction refuses: the row goes back, the log does not.
  await sequencer.record({ kind: 'authority', leaf: saying({ state: 'active' }), authority: record });
  await sequencer.record({ kind: 'operator', leaf: saying({ state: 'old', serial: '0badc0de' }) });
  const late = await registered(authority, 'late');
  await authority.issuance.issue(requestFor(late.entry, late.tokenId));
  expect(await problems()).toEqual([
    expect.stringContaining('does not know 0badc0de as revoked by the root'),
    expect.stringContaining(`is a certificate of ${issuer.keyId}, which was old by then`),
    expect.stringContaining(`authority ${issuer.keyId}`),
  ]);
});
