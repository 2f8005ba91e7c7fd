import { hash, randomBytes } from 'node:crypto';
import path from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { verifyState } from '../../src/audit/verify-state.ts';
import { shardOf } from '../../src/core/publication.ts';
import type { Reason } from '../../src/core/reasons.ts';
import type { Serial } from '../../src/core/serial.ts';
import { crlLeaf, revocationLeaf } from '../../src/sequencer/record.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import type { ParsedRevoked } from '../../src/x509/crl-entries.ts';
import { CrlList } from '../../src/x509/crl-list.ts';
import { buildCrl, encodeRevoked, joinedCrl } from '../../src/x509/crl-tbs.ts';
import {
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { tampered } from './state-copies.ts';

// Holds, releases, worse reasons and deltas, on CRLs that say what the test has them say.

let authority: SoftwareAuthority;
let serials: [Serial, Serial];
let date: number;

beforeEach(async () => {
  authority = await softwareAuthority();
  serials = [await issued('a'), await issued('b')].sort() as [Serial, Serial];
  date = Math.floor(authority.clock.now() / 1000) - 60;
});
afterEach(() => authority.close());

test('a full CRL says what counted by the leaves that it covers', async () => {
  const [a, b] = serials;
  await event(a, 'certificateHold');
  await event(b, 'superseded');
  const [held, replaced] = [entry(a, 'certificateHold'), entry(b, 'superseded')];
  await crl('full', [held, replaced], { dated: [a, b] });
  const covered = authority.store.treeSize();
  await event(a, 'removeFromCRL');
  await event(b, 'keyCompromise', date - 60);
  expect(problems(), 'it does not cover them yet').toEqual([]);
  await crl('full', [held, replaced], { covers: covered });
  expect(problems()).toEqual([]);
  const compromised = { ...entry(b, 'keyCompromise'), invalidityDateSeconds: date - 60 };
  await crl('full', [compromised]);
  expect(problems()).toEqual([]);
  await crl('full', [held, compromised]);
  expect(problems()).toEqual([expect.stringMatching(`lists ${a}, which was released by leaf`)]);
  await crl('full', [entry(b, 'superseded')]);
  expect(problems()).toEqual([
    expect.stringMatching(`${b} the reason superseded, the store keyCompromise`),
    expect.stringMatching(`${b} the invalidity date null, the store ${date - 60}`),
  ]);
  await event(a, 'unspecified');
  await crl('full', [compromised]);
  expect(problems()).toEqual([expect.stringMatching(`does not list ${a}`)]);
  await crl('full', [{ ...entry(a, 'unspecified'), dateSeconds: date + 5 }, compromised], { dated: [a] });
  expect(problems()).toEqual([]);
});

test('a delta says with its base what a full CRL would', async () => {
  const [a, b] = serials;
  await event(a, 'certificateHold');
  const held = entry(a, 'certificateHold');
  const base = await crl('full', [held], { dated: [a] });
  await event(a, 'removeFromCRL');
  await event(b, 'superseded');
  const [released, replaced] = [entry(a, 'removeFromCRL'), entry(b, 'superseded')];
  await crl('delta', [released, replaced], { base, dated: [b] });
  expect(problems()).toEqual([]);
  await crl('full', [replaced]);
  expect(problems()).toEqual([]);
  for (const [entries, says] of [
    [[replaced], `leaves ${a} on its base, which was released`],
    [[held, replaced], `lists ${a}, which was released by leaf`],
    [[released], `with its base it covers leaf \\d+ and does not list ${b}`],
    [[released, entry(b, 'removeFromCRL')], `takes ${b} off, which stands`],
    [[released, entry(b, 'keyCompromise')], `${b} the reason keyCompromise, the store superseded`],
  ] as const) {
    await crl('delta', entries, { base });
    expect(problems()).toEqual([expect.stringMatching(says)]);
  }
  await crl('full', [replaced]);
  await crl('delta', [replaced], { base });
  expect(problems(), 'nothing tells what its base said').toEqual([]);
});

test('a delta is one, and no full CRL is', async () => {
  const base = await crl('full', []);
  await crl('delta', []);
  expect(problems()).toEqual([expect.stringMatching(/\(delta\).*not a delta/)]);
  await crl('delta', [], { base: base + 10n ** 15n });
  expect(problems()).toEqual([
    expect.stringMatching(/\(delta\).*not a delta/),
    expect.stringMatching(/\(delta\).*not a delta/),
  ]);
});

test('events that do not follow each other are found', async () => {
  const [a] = serials;
  const [hold, release, worse] = [
    await event(a, 'certificateHold'),
    await event(a, 'removeFromCRL'),
    await event(a, 'superseded'),
  ];
  expect(problems()).toEqual([]);
  const where = (leafIndex: number, change: string) =>
    `UPDATE revocations SET ${change} WHERE leaf_index = ${leafIndex}`;
  const cases: [string, RegExp][] = [
    [where(hold, `followed_by = ${worse}`), /before it says that leaf \d+ followed/],
    [where(hold, 'followed_by = 1000000'), /followedBy is 1000000/],
    [where(release, 'followed_by = 1000000'), /followedBy is 1000000/],
    [where(hold, "reason = 'superseded'"), /removeFromCRL does not follow superseded/],
    [where(hold, 'crl_date_seconds = 7'), /its date is null, that of the one before 7/],
    [where(hold, 'may_leave = 1'), /the one before it left its CRLs already/],
    [`DELETE FROM revocations WHERE leaf_index = ${release}`, /does not know as revoked/],
  ];
  for (const [change, says] of cases)
    expect(problems(tampered(authority.folder, change)).join('\n'), change).toMatch(says);
});

async function issued(name: string): Promise<Serial> {
  const { entry: of, tokenId } = await registered(authority, name);
  return (await authority.issuance.issue(requestFor(of, tokenId))).record.serial;
}

/** Records what happens to a certificate; the index of its leaf. */
async function event(serial: Serial, reason: Reason, invalidityDateSeconds?: number): Promise<number> {
  const { issuer, store, sequencer, clock } = authority;
  const certificate = store.certificate(issuer.keyId, serial);
  const revocation = {
    ...{ issuerKeyId: issuer.keyId, serial, reason, invalidityDateSeconds, operator: 'uid:0' },
    ...{ revokedAtMs: clock.now(), shard: shardOf(serial, 16), salt: randomBytes(16) },
    notAfterMs: certificate?.notAfterMs ?? 0,
  };
  const leaf = revocationLeaf(clock.now(), issuer.keyId, revocation);
  const blockKeySha256 = reason === 'keyCompromise' ? certificate?.spkiSha256 : undefined;
  return sequencer.record({ kind: 'revocation', leaf, revocation, blockKeySha256 });
}

function entry(serial: Serial, reason: Reason): ParsedRevoked {
  return { serial, reason, dateSeconds: date };
}

/** Commits a CRL with these entries, as a signer that is away leaves it; its number. */
async function crl(
  scope: 'full' | 'delta',
  entries: readonly ParsedRevoked[],
  said: { base?: bigint; covers?: number; dated?: Serial[] } = {},
): Promise<bigint> {
  const { issuer, store, sequencer, clock } = authority;
  const crlNumber = store.lastCrlNumber(issuer.keyId) + 1n;
  const thisUpdateSeconds = Math.floor(clock.now() / 1000);
  const times = { thisUpdateSeconds, nextUpdateSeconds: thisUpdateSeconds + 3600 };
  const tbs = buildCrl({
    ...{ ...times, algorithm: issuer.algorithm, issuerName: issuer.issuerName },
    ...{ authorityKeyId: issuer.keyId, crlNumber, deltaBase: said.base },
    revoked: CrlList.of(entries.map(encodeRevoked)),
  });
  const tbsSha256 = hash('sha256', joinedCrl(tbs), 'buffer');
  const leaf = crlLeaf(clock.now(), issuer.keyId, { scope, crlNumber, tbsSha256 });
  const covers = { scheduled: false, base: false, coversTreeSize: said.covers ?? store.treeSize() };
  const datesFixed = (said.dated ?? []).map((serial) => ({
    serial,
    crlDateSeconds: entries.find((one) => one.serial === serial)?.dateSeconds ?? 0,
  }));
  const made = { issuerKeyId: issuer.keyId, scope, crlNumber, ...times, ...covers, tbs };
  await sequencer.record({ kind: 'crl', leaf, crl: made, datesFixed });
  return crlNumber;
}

function problems(folder = authority.folder): string[] {
  const store = openSqliteStore(path.join(folder, 'vouch.db'), { readonly: true });
  try {
    return verifyState(store, undefined, () => undefined).problems;
  } finally {
    void store.close();
  }
}
