import { afterEach, beforeEach, expect, test } from 'vitest';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import type { Reason } from '../../src/core/reasons.ts';
import type { CertificateRecord } from '../../src/store/records.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import type { RevocationTarget } from '../../src/revocation/targets.ts';
import { shardOf } from '../../src/core/publication.ts';
import { revocationLeaf } from '../../src/sequencer/record.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { bendRevocations } from '../support/bent-revocations.ts';
import {
  freshKey,
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { readPublished } from '../support/crl-bytes.ts';

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let revocation: Revocation;
let published: PublishedCrl[];
let alarms: string[];

function openPublisher(
  url = publicationUrl,
  validitySeconds = defaultCrlTiming.validitySeconds,
): CrlPublisher {
  return new CrlPublisher({
    ...authority,
    publicationUrl: url,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0, validitySeconds },
    publish: (crl) => published.push(crl),
    alarm: (scope, problems) => alarms.push(`${scope}: ${problems.join()}`),
  });
}

beforeEach(async () => {
  authority = await softwareAuthority();
  published = [];
  alarms = [];
  publisher = openPublisher();
  await publisher.start();
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  await until(() => publisher.current().length === 18);
});
afterEach(async () => {
  await publisher.close();
  await authority.close();
});

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 500 && !condition(); turn += 1)
    await new Promise((resolve) => setTimeout(resolve, 5));
  expect(condition()).toBe(true);
}

/** Records an event of a certificate, whatever stands, and hands it to the publisher. */
async function record(
  { issuerKeyId, serial, notAfterMs }: Pick<CertificateRecord, 'issuerKeyId' | 'serial' | 'notAfterMs'>,
  reason: Reason,
): Promise<void> {
  const revokedAtMs = authority.clockGuard.revocationTimeMs();
  const event = {
    ...{ issuerKeyId, serial, shard: shardOf(serial, 16), reason, notAfterMs },
    ...{ revokedAtMs, operator: 'uid:0', salt: Buffer.alloc(16) },
  };
  const leaf = revocationLeaf(revokedAtMs, issuerKeyId, event);
  await authority.sequencer.record({
    kind: 'revocation',
    leaf,
    revocation: event,
    blockKeySha256: undefined,
  });
  const stored = authority.store.revocation(issuerKeyId, serial);
  if (stored) publisher.add(stored);
}

async function issue(name = 'orders', uses = 1) {
  const { entry, tokenId } = await registered(authority, name, { uses });
  return { entry, tokenId, issued: await authority.issuance.issue(requestFor(entry, tokenId)) };
}

function crl(scope: string) {
  const found = publisher.current().find((one) => one.scope === scope);
  if (!found) throw new Error(`no CRL ${scope}`);
  return readPublished(found);
}

test('a revocation stands on its shard and on the full CRL, and on no other shard', async () => {
  const { issued } = await issue();
  const { serial } = issued.record;
  const result = await revocation.revoke({ by: 'serial', serial, only: false }, 'keyCompromise', 'uid:0');
  expect(result).toMatchObject({
    revoked: [{ serial, reason: 'keyCompromise' }],
    alreadyRevoked: [],
    published: true,
  });
  const shardUrl = parseCertificate(issued.der).crlUrls[0] ?? '';
  const on = publisher.current().filter((one) => one.scope !== 'delta' && readPublished(one).has(serial));
  expect(on.map((one) => one.url).sort()).toEqual(
    [`${publicationUrl}/crl/${authority.issuer.keyId}.crl`, shardUrl].sort(),
  );
  const atShard = on.find((one) => one.url === shardUrl);
  expect(atShard && readPublished(atShard).idp?.urls).toEqual([shardUrl]);
  expect(crl('full').idp).toBeUndefined();
});

test('CRLs are listed full first, then by shard, after a restart too', async () => {
  const scopes = ['full', ...Array.from({ length: 16 }, (_, shard) => String(shard)), 'delta'];
  expect(publisher.current().map(({ scope }) => scope)).toEqual(scopes);
  await publisher.close();
  publisher = openPublisher();
  await publisher.start();
  expect(publisher.current().map(({ scope }) => scope)).toEqual(scopes);
});

test('revoking again is no error and says so', async () => {
  const { issued } = await issue();
  const target = { by: 'serial', serial: issued.record.serial, only: false } as const;
  await revocation.revoke(target, 'superseded', 'uid:0');
  const again = await revocation.revoke(target, 'superseded', 'uid:0');
  expect(again).toMatchObject({ revoked: [], alreadyRevoked: [issued.record.serial], published: true });
});

test.each(['id', 'entry', 'token', 'serial'] as const)(
  'revoking again by %s names everything unexpired that was revoked before, and nothing else',
  async (by) => {
    const { entry, tokenId, issued } = await issue('orders', 2);
    const { serial, spiffeId } = issued.record;
    const another = await authority.issuance.issue(
      by === 'token'
        ? requestFor(entry, tokenId)
        : { ...requestFor(entry, undefined), predecessor: issued.record },
    );
    const target = {
      id: { by: 'id', spiffeId },
      entry: { by: 'entry', entryId: entry.entryId },
      token: { by: 'token', tokenId },
      serial: { by: 'serial', serial, only: false },
    }[by] as RevocationTarget;
    const { issued: foreign } = await issue('billing');
    await revocation.revoke({ by: 'id', spiffeId: foreign.record.spiffeId }, 'superseded', 'uid:0');
    const first = await revocation.revoke({ by: 'serial', serial, only: true }, 'superseded', 'uid:0');
    expect(first.alreadyRevoked).toEqual([]);
    const second = await revocation.revoke(target, 'superseded', 'uid:0');
    expect(second.alreadyRevoked).toEqual([serial]);
    expect(second.revoked).toMatchObject([{ serial: another.record.serial }]);
    const third = await revocation.revoke(target, 'superseded', 'uid:0');
    expect(third).toMatchObject({ revoked: [], alreadyRevoked: [another.record.serial, serial] });
  },
);

test('a serial ends its lineage, renewals included; --only ends just that one', async () => {
  const { entry, issued } = await issue();
  const renewed = await authority.issuance.issue({
    ...requestFor(entry, undefined),
    predecessor: issued.record,
  });
  const only = await revocation.revoke(
    { by: 'serial', serial: issued.record.serial, only: true },
    'superseded',
    'uid:0',
  );
  expect(only.revoked.map((one) => one.serial)).toEqual([issued.record.serial]);
  const all = await revocation.revoke(
    { by: 'serial', serial: issued.record.serial, only: false },
    'superseded',
    'uid:0',
  );
  expect(all.revoked.map((one) => one.serial)).toEqual([renewed.record.serial]);
});

test('a renewal that races a revocation is either refused or revoked', async () => {
  const { entry, issued } = await issue();
  for (let round = 0; round < 10; round += 1) {
    const { entry: another, issued: first } = await issue(`racer${round}`);
    const [renewal] = await Promise.allSettled([
      authority.issuance.issue({ ...requestFor(another, undefined), predecessor: first.record }),
      revocation.revoke({ by: 'serial', serial: first.record.serial, only: false }, 'superseded', 'uid:0'),
    ]);
    if (renewal.status === 'fulfilled') expect(crl('full').has(renewal.value.record.serial)).toBe(true);
    else expect(renewal.reason).toMatchObject({ code: 'denied-revoked' });
  }
  expect(entry.spiffeId).toBeDefined();
  expect(issued.der.length).toBeGreaterThan(0);
});

test('an identity that is revoked gets nothing until it is resumed', async () => {
  const { entry, tokenId } = await issue('orders', 5);
  const result = await revocation.revoke(
    { by: 'id', spiffeId: entry.spiffeId },
    'privilegeWithdrawn',
    'uid:0',
  );
  expect(result.revoked).toHaveLength(1);
  await expect(authority.issuance.issue(requestFor(entry, tokenId))).rejects.toMatchObject({
    code: expect.stringMatching(/denied-suspended|policy-entry-changed/),
  });
});

test('keyCompromise blocks the key for ever', async () => {
  const key = freshKey();
  const { entry, tokenId } = await registered(authority, 'orders');
  const issued = await authority.issuance.issue(requestFor(entry, tokenId, key));
  await revocation.revoke(
    { by: 'serial', serial: issued.record.serial, only: false },
    'keyCompromise',
    'uid:0',
  );
  const next = await registered(authority, 'orders');
  await expect(authority.issuance.issue(requestFor(next.entry, next.tokenId, key))).rejects.toMatchObject({
    code: 'policy-key-blocked',
  });
});

test('keyCompromise after another reason is told by the CRLs and blocks the key', async () => {
  const key = freshKey();
  const { entry, tokenId } = await registered(authority, 'orders', { uses: 5 });
  const { serial } = (await authority.issuance.issue(requestFor(entry, tokenId, key))).record;
  const byId = { by: 'id', spiffeId: entry.spiffeId } as const;
  const target = { by: 'serial', serial, only: false } as const;
  await revocation.revoke(target, 'superseded', 'uid:0');
  const entryOf = () =>
    [...crl('full').revoked()].map(({ reason, dateSeconds }) => ({ reason, dateSeconds }));
  const [{ dateSeconds } = { dateSeconds: 0 }] = entryOf();
  expect(await revocation.revoke(target, 'privilegeWithdrawn', 'uid:7')).toMatchObject({
    ...{ revoked: [{ serial, reason: 'privilegeWithdrawn' }], alreadyRevoked: [], published: true },
  });
  expect(await revocation.revoke(target, 'keyCompromise', 'uid:7')).toMatchObject({
    ...{
      revoked: [{ serial, reason: 'keyCompromise' }],
      alreadyRevoked: [],
      keysBlocked: [],
      published: true,
    },
  });
  const next = await registered(authority, 'other');
  await expect(authority.issuance.issue(requestFor(next.entry, next.tokenId, key))).rejects.toMatchObject({
    code: 'policy-key-blocked',
  });
  expect(entryOf()).toEqual([{ reason: 'keyCompromise', dateSeconds }]);
  for (const lesser of ['keyCompromise', 'superseded', 'certificateHold'] as const)
    expect(await revocation.revoke(target, lesser, 'uid:7')).toMatchObject({
      ...{ revoked: [], alreadyRevoked: [serial], keysBlocked: [] },
    });
  // By what certificates have in common, those that were revoked before are meant, too.
  const another = (await issue()).issued.record.serial;
  await revocation.revoke({ by: 'serial', serial: another, only: true }, 'superseded', 'uid:0');
  expect(await revocation.revoke(byId, 'keyCompromise', 'uid:0')).toMatchObject({
    ...{ revoked: [{ serial: another }], alreadyRevoked: [serial] },
  });
});

test('CRL numbers and thisUpdate rise, nextUpdate never falls, and the date of an entry stays', async () => {
  const { issued } = await issue();
  const first = await issue('first');
  await revocation.revoke(
    { by: 'serial', serial: first.issued.record.serial, only: false },
    'superseded',
    'uid:0',
  );
  const before = crl('full');
  authority.clock.pass(7_000);
  await revocation.revoke({ by: 'serial', serial: issued.record.serial, only: false }, 'superseded', 'uid:0');
  const after = crl('full');
  expect(after.crlNumber ?? 0n).toBeGreaterThan(before.crlNumber ?? 0n);
  expect(after.thisUpdateSeconds).toBeGreaterThan(before.thisUpdateSeconds);
  expect(after.nextUpdateSeconds).toBeGreaterThanOrEqual(before.nextUpdateSeconds);
  const dateIn = (list: typeof after) =>
    [...list.revoked()].find((one) => one.serial === first.issued.record.serial)?.dateSeconds;
  expect(dateIn(after)).toBe(dateIn(before));
  expect(dateIn(before) ?? Infinity).toBeLessThanOrEqual(before.thisUpdateSeconds);
});

test('an entry leaves only after a scheduled CRL past its expiry carried it', async () => {
  const { issued } = await issue();
  const { serial } = issued.record;
  await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
  authority.clock.pass(2 * 3600_000);
  const other = await issue('other');
  await revocation.revoke(
    { by: 'serial', serial: other.issued.record.serial, only: false },
    'superseded',
    'uid:0',
  );
  expect(crl('full').has(serial)).toBe(true);
  const number = crl('full').crlNumber;
  authority.clock.pass(61_000);
  publisher.publishAll(true);
  await until(() => crl('full').crlNumber !== number);
  expect(crl('full').has(serial)).toBe(true);
  expect(authority.store.revocation(authority.issuer.keyId, serial)?.mayLeave).toBe(false);
  authority.clock.pass(61_000);
  publisher.publishAll(false);
  const unscheduled = crl('full').crlNumber;
  await until(() => crl('full').crlNumber !== unscheduled);
  expect(crl('full').has(serial)).toBe(true);
  authority.clock.pass(61_000);
  publisher.publishAll(true);
  await until(() => !crl('full').has(serial));
  expect(authority.store.revocation(authority.issuer.keyId, serial)?.mayLeave).toBe(true);
  expect(crl('full').has(other.issued.record.serial)).toBe(true);
  expect(alarms).toEqual([]);
});

test('what has left comes back by no event', async () => {
  const { issued } = await issue();
  const { issuerKeyId, serial } = issued.record;
  await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
  authority.clock.pass(2 * 3600_000);
  for (let scheduled = 0; scheduled < 2; scheduled += 1) {
    const number = crl('full').crlNumber;
    publisher.publishAll(true);
    await until(() => crl('full').crlNumber !== number);
    authority.clock.pass(61_000);
  }
  expect(crl('full').has(serial)).toBe(false);
  await record(issued.record, 'keyCompromise');
  expect(authority.store.revocation(issuerKeyId, serial)).toMatchObject({
    reason: 'keyCompromise',
    mayLeave: true,
  });
  expect(await publisher.publishNow(5000)).toBe(true);
  for (const scope of ['full', 'delta', String(shardOf(serial, 16))])
    expect(crl(scope).has(serial)).toBe(false);
  expect(alarms).toEqual([]);
});

test('what gets worse keeps its date, also when the clock was set back and believed since', async () => {
  const { issued } = await issue();
  const { serial } = issued.record;
  await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
  const date = () => [...crl('full').revoked()].find((one) => one.serial === serial)?.dateSeconds;
  const before = date();
  authority.clock.step(-3600_000);
  await authority.store.setClockMark(authority.clockGuard.accept());
  await record(issued.record, 'keyCompromise');
  authority.clock.pass(3600_000);
  await until(() => [...crl('full').revoked()].some(({ reason }) => reason === 'keyCompromise'));
  expect(date()).toBe(before);
  expect(alarms.filter((alarm) => !alarm.includes('the clock is behind'))).toEqual([]);
});

test('off the schedule nothing leaves, and the schedule goes on however often revocations renew a CRL', async () => {
  const { issued } = await issue();
  const { serial } = issued.record;
  await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
  authority.clock.pass(2 * 3600_000);
  for (let time = 0; time < 3; time += 1) {
    authority.clock.pass(61_000);
    expect(await publisher.publishNow(5000)).toBe(true);
  }
  expect(crl('full').has(serial)).toBe(true);
  publisher.publishDue();
  expect(authority.store.revocation(authority.issuer.keyId, serial)?.mayLeave).toBe(false);
  // A day on, with every scope published anew each hour and the server started again in between.
  for (let hour = 0; hour < 12; hour += 1) {
    if (hour % 5 === 4) {
      await publisher.close();
      publisher = openPublisher();
      await publisher.start();
    }
    authority.clock.pass(3600_000);
    expect(await publisher.publishNow(5000)).toBe(true);
    publisher.publishDue();
  }
  await until(() => authority.store.revocation(authority.issuer.keyId, serial)?.mayLeave === true);
  await until(() => !crl('full').has(serial));
  expect(alarms).toEqual([]);
});

test('that nothing was published is said', async () => {
  const { keyId } = authority.issuer;
  const number = authority.store.lastCrlNumber(keyId);
  authority.sequencer.signerAnswers = () => false;
  expect(await publisher.publishNow(100)).toBe(false);
  expect(authority.store.lastCrlNumber(keyId)).toBe(number);
});

test('while the clock is in doubt nothing leaves a CRL, revocations are taken, and no CRL is dated by the jump', async () => {
  const { issued } = await issue();
  await revocation.revoke({ by: 'serial', serial: issued.record.serial, only: false }, 'superseded', 'uid:0');
  const live = (await issue('live')).issued.record;
  authority.clock.step(10 * 24 * 3600_000);
  expect(authority.clockGuard.doubt()).toContain('jumped');
  const result = await revocation.revoke(
    { by: 'serial', serial: live.serial, only: false },
    'superseded',
    'uid:0',
  );
  expect(result).toMatchObject({ published: true, revoked: [{ serial: live.serial }] });
  authority.clock.pass(2 * 3600_000);
  for (let scheduled = 0; scheduled < 2; scheduled += 1) {
    const number = crl('full').crlNumber;
    authority.clock.pass(61_000);
    publisher.publishAll(true);
    await until(() => crl('full').crlNumber !== number);
  }
  const { thisUpdateSeconds } = crl('full');
  expect(thisUpdateSeconds * 1000).toBeGreaterThan(issued.record.notAfterMs);
  expect(thisUpdateSeconds * 1000).toBeLessThan(authority.clock.now() - 9 * 24 * 3600_000);
  expect(crl('full').has(issued.record.serial)).toBe(true);
  expect(crl('full').has(live.serial)).toBe(true);
  expect(alarms).toEqual([]);
});

test('a clock that is set back holds up no publication', async () => {
  const { issued } = await issue();
  authority.clockGuard.nextMark();
  authority.clock.step(-3600_000);
  expect(authority.clockGuard.doubt()).toContain('behind');
  const { serial } = issued.record;
  const before = crl('full').thisUpdateSeconds;
  const result = await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
  expect(result).toMatchObject({ published: true, revoked: [{ serial }] });
  expect(crl('full').thisUpdateSeconds).toBeGreaterThan(before);
  expect(alarms).toEqual([]);
});

test('with the signer away a revocation is recorded and published when it is back', async () => {
  const { issued } = await issue();
  authority.signer.state = 'degraded';
  const { serial } = issued.record;
  const result = await revocation.revoke({ by: 'serial', serial, only: false }, 'superseded', 'uid:0');
  expect(result).toMatchObject({ published: false, revoked: [{ serial }] });
  expect(authority.store.revocation(authority.issuer.keyId, serial)).toBeDefined();
}, 15_000);

test('a publisher that starts again serves the stored CRLs at once and rebuilds what is behind', async () => {
  const { issued } = await issue();
  await revocation.revoke({ by: 'serial', serial: issued.record.serial, only: false }, 'superseded', 'uid:0');
  await until(
    () => authority.store.lastCrls(authority.issuer.keyId).filter((row) => row.signature).length === 18,
  );
  const before = published.length;
  const second = openPublisher();
  await second.start();
  expect(second.current()).toHaveLength(18);
  expect(published.length).toBe(before + 19);
  await second.close();
});

test('under another publication URL and with a shorter validity, times of a scope still do not fall', async () => {
  await publisher.close();
  const before = publisher.current().map(({ scope }) => ({ scope, crl: crl(scope) }));
  publisher = openPublisher('http://elsewhere.example', 3600);
  await publisher.start();
  expect(publisher.current().map(({ scope }) => scope)).toEqual(['full', 'delta']);
  await until(() => publisher.current().length === 18);
  await until(
    () => crl('full').freshestUrls[0] === `http://elsewhere.example/crl/${authority.issuer.keyId}/delta.crl`,
  );
  for (const { scope, crl: old } of before.filter(({ scope }) => scope !== 'delta')) {
    expect(crl(scope).thisUpdateSeconds, scope).toBeGreaterThan(old.thisUpdateSeconds);
    expect(crl(scope).nextUpdateSeconds, scope).toBeGreaterThanOrEqual(old.nextUpdateSeconds);
  }
  expect(alarms).toEqual([]);
});

test('a revocation stands on the shard of its serial, whatever the store says by now', async () => {
  const { issued } = await issue();
  const { serial } = issued.record;
  await publisher.close();
  const { store } = authority;
  void revocation.revoke({ by: 'serial', serial, only: true }, 'superseded', 'uid:0');
  await until(() => store.revocation(authority.issuer.keyId, serial) !== undefined);
  bendRevocations(store, (record) => ({ ...record, shard: (record.shard + 1) % 16 }));
  publisher = openPublisher();
  await publisher.start();
  const on = () => publisher.current().filter((crl) => readPublished(crl).has(serial));
  await until(() => on().length === 2);
  expect(on().map(({ url }) => url)).toContain(parseCertificate(issued.der).crlUrls[0]);
  expect(alarms).toEqual([]);
});

test('the date of an entry is that of the CRLs that carry it, not of others in the same round', async () => {
  const serials = [];
  for (let count = 0; count < 18; count += 1) serials.push((await issue()).issued.record.serial);
  const byShard = [...Map.groupBy(serials, (serial) => shardOf(serial, 16)).entries()];
  const [shard, [first, second] = []] = byShard.find(([, group]) => group.length > 1) ?? [];
  const [otherShard, [other] = []] = byShard.find(([number]) => number !== shard) ?? [];
  const revoke = (serial = first!) =>
    revocation.revoke({ by: 'serial', serial, only: true }, 'superseded', 'uid:0');
  // One shard is ahead of another: it was published oftener.
  await revoke(first);
  await Promise.all([revoke(second), revoke(other)]);
  const date = [...crl('full').revoked()].find((one) => one.serial === second)?.dateSeconds;
  expect(date).toBe(Math.min(crl(String(shard)).thisUpdateSeconds, crl('full').thisUpdateSeconds));
  expect(date).toBeGreaterThan(crl(String(otherShard)).thisUpdateSeconds);
});

test('a hold that came and went since the base stays on the delta as removed, over a restart too', async () => {
  const { issued } = await issue();
  const { serial, notAfterMs } = issued.record;
  const { issuer, sequencer, store } = authority;
  const event = async (reason: 'certificateHold' | 'removeFromCRL') => {
    const revokedAtMs = authority.clock.now();
    const revocation = {
      ...{ issuerKeyId: issuer.keyId, serial, shard: shardOf(serial, 16), revokedAtMs, notAfterMs, reason },
      ...{ operator: 'uid:0', salt: Buffer.alloc(16, 1) },
    };
    const leaf = revocationLeaf(revokedAtMs, issuer.keyId, revocation);
    await sequencer.record({ kind: 'revocation', leaf, revocation, blockKeySha256: undefined });
    const record = store.revocation(issuer.keyId, serial);
    if (!record) throw new Error('recorded');
    publisher.add(record);
    expect(await publisher.published([record], 5000)).toBeDefined();
    await until(
      () =>
        (publisher.current().find(({ scope }) => scope === 'delta')?.coversTreeSize ?? 0) > record.leafIndex,
    );
  };
  const told = () => [...crl('delta').revoked()].find((one) => one.serial === serial)?.reason;
  await event('certificateHold');
  expect([told(), crl('full').has(serial)]).toEqual(['certificateHold', true]);
  await event('removeFromCRL');
  expect([told(), crl('full').has(serial)]).toEqual(['removeFromCRL', false]);
  await until(() => store.lastCrls(issuer.keyId).every((row) => row.signature));
  await publisher.close();
  publisher = openPublisher();
  await publisher.start();
  expect(await publisher.publishNow(5000)).toBe(true);
  expect(told()).toBe('removeFromCRL');
  await event('certificateHold');
  expect([told(), crl('full').has(serial)]).toEqual(['certificateHold', true]);
  expect(alarms).toEqual([]);
});

test('a start publishes what comes as soon as it knows what came since, before it has read all there is', async () => {
  const { issued } = await issue();
  await until(() => authority.store.lastCrls(authority.issuer.keyId).every((row) => row.signature));
  await publisher.close();
  const { store } = authority;
  const standing = store.standingBySerial.bind(store);
  store.standingBySerial = () => {
    throw new Error('not read');
  };
  publisher = openPublisher();
  await publisher.start();
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  const target = { by: 'serial', serial: issued.record.serial, only: true } as const;
  expect(await revocation.revoke(target, 'superseded', 'uid:0')).toMatchObject({ published: true });
  expect(alarms).toEqual([expect.stringContaining('all: ')]);
  store.standingBySerial = standing;
});
