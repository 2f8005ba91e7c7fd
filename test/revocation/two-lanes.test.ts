import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { shardOf } from '../../src/core/publication.ts';
import type { Reason } from '../../src/core/reasons.ts';
import { newSerial, type Serial } from '../../src/core/serial.ts';
import { CrlDrafts } from '../../src/revocation/crl-drafts.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { RevokedLists } from '../../src/revocation/revoked-lists.ts';
import { signCrl } from '../../src/revocation/signed-crl.ts';
import { revocationLeaf } from '../../src/sequencer/record.ts';
import { becomes } from '../invariants/support/refusal.ts';
import { bendRevocations } from '../support/bent-revocations.ts';
import { publicationUrl, type SoftwareAuthority, softwareAuthority } from '../support/software-authority.ts';

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let alarms: string[];

beforeEach(async () => {
  authority = await softwareAuthority();
  alarms = [];
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    // Large with a first entry.
    bounds: { smallBytes: 40, deltaMaxEntries: 10_000 },
    publish: () => undefined,
    alarm: (scope, problems) => alarms.push(`${scope}: ${problems.join()}`),
  });
});
afterEach(async () => {
  await publisher.close();
  await authority.close();
});

async function record(serial: Serial, reason: Reason): Promise<void> {
  const { issuer, clock, sequencer } = authority;
  const revocation = {
    ...{ issuerKeyId: issuer.keyId, serial, reason, shard: shardOf(serial, 16) },
    ...{ revokedAtMs: clock.now(), notAfterMs: clock.now() + 3600_000, operator: 'uid:0' },
    salt: randomBytes(16),
  };
  const leaf = revocationLeaf(revocation.revokedAtMs, issuer.keyId, revocation);
  await sequencer.record({ kind: 'revocation', leaf, revocation, blockKeySha256: undefined });
}

function add(serial: Serial): void {
  const recorded = authority.store.revocation(authority.issuer.keyId, serial);
  if (recorded) publisher.add(recorded);
}

const fresh = (): Serial => newSerial(0x2a, randomBytes);
const onFull = (serial: Serial) =>
  publisher
    .current()
    .find(({ scope }) => scope === 'full')
    ?.der.list.find(serial);

test('a CRL fixes the dates of what it carries, not of what the other lane has taken in since', async () => {
  const { issuer, store } = authority;
  const lists = new RevokedLists(16);
  const parts = { issuer, publicationUrl, validitySeconds: 60, backdateSeconds: 60, shardCount: 16, lists };
  const drafts = new CrlDrafts({ ...parts, previous: new Map(), lastNumber: 0n });
  const [before, since] = [fresh(), fresh()];
  const take = async (serial: Serial) => {
    await record(serial, 'superseded');
    const recorded = store.revocation(issuer.keyId, serial);
    if (recorded) lists.add(recorded);
  };
  const occasion = { scheduled: false, newBase: false };
  await take(before);
  const [full] = drafts.make(['full'], occasion, authority.clock.now());
  await take(since);
  const [shard] = drafts.make([String(shardOf(since, 16))], occasion, authority.clock.now());
  expect(full?.datesFixed.map(({ serial }) => serial)).toEqual([before]);
  expect(shard?.datesFixed.map(({ serial }) => serial)).toContain(since);
  if (full) await signCrl(full, { ...authority, nowMs: authority.clock.now() });
  expect(store.revocation(issuer.keyId, before)?.crlDateSeconds).toBeDefined();
});

test('a worse reason that comes while its hold is being signed keeps the date of the hold', async () => {
  await publisher.start();
  expect(await becomes(() => publisher.current().length === 18, 10_000)).toBe(true);
  const serial = fresh();
  const { sequencer } = authority;
  const upload = sequencer.upload.bind(sequencer);
  let worse: Promise<void> | undefined;
  sequencer.upload = async (...asked) => {
    worse ??= record(serial, 'keyCompromise');
    await worse;
    return upload(...asked);
  };
  authority.clock.pass(5_000);
  await record(serial, 'certificateHold');
  add(serial);
  authority.clock.pass(90_000);
  expect(await becomes(() => worse !== undefined, 10_000)).toBe(true);
  await worse;
  add(serial);
  expect(await becomes(() => onFull(serial)?.reason === 'keyCompromise', 10_000)).toBe(true);
  expect(alarms).toEqual([]);
}, 40_000);

test('a full CRL that grows large while it is on its way is in one lane at a time', async () => {
  await publisher.start();
  expect(await becomes(() => publisher.current().length === 18, 10_000)).toBe(true);
  const { sequencer } = authority;
  const upload = sequencer.upload.bind(sequencer);
  const { promise: goesOn, resolve: goOn } = Promise.withResolvers<void>();
  let uploads = 0;
  sequencer.upload = async (...asked) => {
    uploads += 1;
    if (uploads <= 3) await goesOn;
    return upload(...asked);
  };
  const [first, second] = [fresh(), fresh()];
  await record(first, 'superseded');
  add(first);
  // Shard, full CRL and delta.
  expect(await becomes(() => uploads === 3, 10_000)).toBe(true);
  await record(second, 'superseded');
  add(second);
  await becomes(() => onFull(second) !== undefined, 1_000);
  goOn();
  const on = (serial: Serial) =>
    publisher.current().filter(({ scope, der }) => scope !== 'delta' && der.list.find(serial)).length;
  expect(await becomes(() => on(first) + on(second) === 4, 10_000)).toBe(true);
  expect(alarms).toEqual([]);
}, 60_000);

test('what is refused for long keeps no other revocation waiting', async () => {
  await publisher.start();
  expect(await becomes(() => publisher.current().length === 18, 10_000)).toBe(true);
  const onShard = (serial: Serial) =>
    publisher.current().some(({ scope, der }) => /\d/.test(scope) && der.list.find(serial) !== undefined);
  const bad = fresh();
  await record(bad, 'superseded');
  const recorded = authority.store.revocation(authority.issuer.keyId, bad);
  const straighten = bendRevocations(authority.store, (one) =>
    one.serial === bad ? { ...one, reason: 'keyCompromise' } : one,
  );
  if (recorded) publisher.add(recorded);
  const near = () => alarms.filter((alarm) => /^\d/.test(alarm)).length;
  // Now a pause of 4 s begins.
  expect(await becomes(() => near() >= 3, 20_000)).toBe(true);
  let other = fresh();
  while (shardOf(other, 16) === shardOf(bad, 16)) other = fresh();
  await record(other, 'superseded');
  add(other);
  expect(await becomes(() => onShard(other), 2_000)).toBe(true);
  expect(onShard(bad)).toBe(false);
  straighten();
}, 60_000);
