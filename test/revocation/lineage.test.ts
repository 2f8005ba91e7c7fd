// What an operator may revoke by, holds and releases, and what a compromised key drags along.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { rfc3339 } from '../../src/core/clock.ts';
import type { Serial } from '../../src/core/serial.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import { RevocationVerbs } from '../../src/operator/revocation-verbs.ts';
import { MassRevocations } from '../../src/revocation/mass.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { Metrics } from '../../src/telemetry/metrics.ts';
import type { RevocationTargetJson } from '../../src/wire/admin.ts';
import { codeOf } from '../invariants/support/refusal.ts';
import { issueFor } from './issue-for.ts';
import { readPublished } from '../support/crl-bytes.ts';
import {
  freshKey,
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let mass: MassRevocations;
let verbs: RevocationVerbs;

beforeEach(async () => {
  authority = await softwareAuthority();
  publisher = new CrlPublisher({
    ...{ ...authority, publicationUrl, shardCount: 16 },
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: () => undefined,
    alarm: (scope, problems) => expect.fail(`${scope}: ${problems.join()}`),
  });
  await publisher.start();
  const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  mass = new MassRevocations({ ...authority, revocation, failed: (error) => expect.fail(String(error)) });
  verbs = new RevocationVerbs({
    ...{ ...authority, revocation, massRevocations: mass, metrics: new Metrics() },
  });
});
afterEach(async () => {
  await mass.close();
  await publisher.close();
  await authority.close();
});

interface Answer {
  revoked: { serial: Serial; reason: string }[];
  alreadyRevoked: Serial[];
  underWay?: true;
  massRevocation?: number;
}

async function revoke(target: RevocationTargetJson, reason = 'superseded', invalidityDate?: string) {
  return ended((await verbs.revoke({ target, reason, invalidityDate }, 'uid:9')) as Answer);
}

async function ended(begun: Answer): Promise<Answer> {
  let answer = begun;
  while (answer.underWay) answer = (await verbs.progress(String(answer.massRevocation))) as Answer;
  return answer;
}

const serials = (answer: Answer) => answer.revoked.map(({ serial }) => serial).sort();
const sorted = (...records: { serial: Serial }[]) => records.map(({ serial }) => serial).sort();
const entriesOf = () => [...readPublished(full()).revoked()];

function full() {
  const found = publisher.current().find(({ scope }) => scope === 'full');
  if (!found) throw new Error('no full CRL');
  return found;
}

async function issue(name = 'orders', key = freshKey()) {
  const { entry, tokenId } = await registered(authority, name, { uses: 9 });
  const { record } = await authority.issuance.issue(requestFor(entry, tokenId, key));
  return { entry, tokenId, record };
}

function renew(of: Awaited<ReturnType<typeof issue>>) {
  return authority.issuance.issue({ ...requestFor(of.entry, undefined), predecessor: of.record });
}

describe('a hold', () => {
  test('refuses a renewal, and after its release the certificate counts and is on no CRL', async () => {
    const held = await issue();
    const { serial } = held.record;
    await revoke({ serial }, 'certificateHold');
    expect(entriesOf()).toMatchObject([{ serial, reason: 'certificateHold' }]);
    expect(await codeOf(() => renew(held))).toBe('denied-revoked');
    expect(await verbs.release({ serial }, 'uid:9')).toMatchObject({
      ...{ released: [{ serial }], releasedCount: 1, published: true },
    });
    expect(entriesOf()).toEqual([]);
    expect(authority.store.revocationEvents(authority.issuer.keyId, serial)).toMatchObject([
      { reason: 'certificateHold', operator: 'uid:9' },
      { reason: 'removeFromCRL', operator: 'uid:9' },
    ]);
    expect(await codeOf(() => renew(held))).toBe('allowed');
  });

  test.each(['keyCompromise', 'superseded'])('what is revoked for %s is not released', async (reason) => {
    const { record } = await issue();
    const { serial } = record;
    await revoke({ serial }, reason);
    expect(await codeOf(() => verbs.release({ serial }, 'uid:9'))).toBe('policy-conflict');
    const byId = (await verbs.release({ id: record.spiffeId }, 'uid:9')) as Answer;
    expect(await ended(byId)).toMatchObject({ released: [], releasedCount: 0 });
    expect(entriesOf()).toMatchObject([{ serial }]);
  });

  test('that became final is not released, nor what was never held', async () => {
    const { serial } = (await issue()).record;
    expect(await codeOf(() => verbs.release({ serial }, 'uid:9'))).toBe('policy-conflict');
    await revoke({ serial }, 'certificateHold');
    expect(await revoke({ serial }, 'keyCompromise')).toMatchObject({
      revoked: [{ reason: 'keyCompromise' }],
    });
    expect(await codeOf(() => verbs.release({ serial }, 'uid:9'))).toBe('policy-conflict');
  });

  test('of an identity is released with it; its entry stays suspended', async () => {
    const { record, entry } = await issue();
    const target = { id: record.spiffeId };
    await revoke(target, 'certificateHold');
    const released = await ended((await verbs.release(target, 'uid:9')) as Answer);
    expect(released).toMatchObject({ released: [{ serial: record.serial }] });
    expect(authority.store.entry(entry.entryId)?.suspendedAtMs).toBeDefined();
  });
});

describe('a compromised key', () => {
  test('ends every valid certificate that has it, whoever holds it', async () => {
    const key = freshKey();
    const [one, other, apart] = [await issue('a', key), await issue('b', key), await issue('c')];
    const answer = await revoke({ serial: one.record.serial, only: true }, 'keyCompromise');
    expect(serials(answer)).toEqual(sorted(one.record, other.record));
    expect(
      entriesOf()
        .map(({ serial }) => serial)
        .sort(),
    ).toEqual(sorted(one.record, other.record));
    expect(await codeOf(() => renew(other))).toBe('denied-revoked');
    expect(await codeOf(() => renew(apart))).toBe('allowed');
    expect(await codeOf(() => issue('d', key))).toBe('policy-key-blocked');
  });

  test('that a crash left half done is ended by the same again', async () => {
    const key = freshKey();
    const [one, other] = [await issue('a', key), await issue('b', key)];
    const record = authority.sequencer.record.bind(authority.sequencer);
    let events = 0;
    authority.sequencer.record = (mutation) => {
      events += mutation.kind === 'revocation' ? 1 : 0;
      return events > 1 ? Promise.reject(new Error('killed')) : record(mutation);
    };
    const target = { serial: one.record.serial };
    await expect(revoke(target, 'keyCompromise')).rejects.toThrow('killed');
    authority.sequencer.record = record;
    expect(serials(await revoke(target, 'keyCompromise'))).toEqual(sorted(other.record));
  });

  test('ends nothing else for a lesser reason', async () => {
    const key = freshKey();
    const [one] = [await issue('a', key), await issue('b', key)];
    expect(serials(await revoke({ serial: one.record.serial }, 'superseded'))).toEqual(sorted(one.record));
  });
});

describe('an invalidity date', () => {
  test('stands on the CRL, and stays when the reason gets worse', async () => {
    const { serial, notBeforeMs } = (await issue()).record;
    const date = rfc3339(notBeforeMs);
    await revoke({ serial }, 'superseded', date);
    const invalidityDateSeconds = notBeforeMs / 1000;
    expect(entriesOf()).toMatchObject([{ serial, reason: 'superseded', invalidityDateSeconds }]);
    await revoke({ serial }, 'keyCompromise');
    expect(entriesOf()).toMatchObject([{ serial, reason: 'keyCompromise', invalidityDateSeconds }]);
  });

  test.each([
    ['yet to come', 3600_000, /yet to come/],
    ['before the certificate was valid', -3600_000, /before the certificate was valid, \d{4}-/],
  ])('%s is refused', async (_what, offsetMs, words) => {
    const { serial } = (await issue()).record;
    const date = rfc3339(authority.clock.now() + offsetMs);
    await expect(revoke({ serial }, 'superseded', date)).rejects.toThrow(words);
    expect(authority.store.revocation(authority.issuer.keyId, serial)).toBeUndefined();
  });
});

describe('an agent', () => {
  const [agent, nested] = ['agent-a', 'agent-b'].map((name) =>
    parseSpiffeId(`spiffe://test.example/${name}`),
  );

  test('takes along what it asked for, and what that asked for', async () => {
    const [own, beside] = [await issue('agent-a'), await issue('apart')];
    const below = await issueFor(authority, { spiffeId: nested, agent });
    const last = await issueFor(authority, { spiffeId: beside.record.spiffeId, agent: nested });
    expect(await verbs.preview({ agent: own.record.spiffeId }, 'superseded')).toMatchObject({
      ...{ certificateCount: 3, identityCount: 3, agentCount: 2, suspendsEntries: [own.entry.entryId] },
    });
    expect(serials(await revoke({ agent: own.record.spiffeId }))).toEqual(sorted(own.record, below, last));
    expect(await codeOf(() => renew(own))).toMatch(/denied-(revoked|suspended)/);
    expect(await codeOf(() => renew(beside))).toBe('allowed');
  });
});

test('a node: its own entries are suspended, those of its workloads are not', async () => {
  const own = await issue('node-agent');
  const workload = await issue('orders');
  const { entryId } = own.entry;
  const agent = own.record.spiffeId;
  const ownToo = await issueFor(authority, { entry: own.entry, spiffeId: agent, node: 'node-1' });
  const asked = await issueFor(authority, {
    ...{ entry: workload.entry, spiffeId: workload.record.spiffeId, node: 'node-1', agent },
  });
  const elsewhere = await issueFor(authority, { spiffeId: agent, node: 'node-2' });
  expect(serials(await revoke({ node: 'node-1' }))).toEqual(sorted(ownToo, asked));
  const isSuspended = (id: string) => authority.store.entry(id)?.suspendedAtMs !== undefined;
  expect([isSuspended(entryId), isSuspended(workload.entry.entryId)]).toEqual([true, false]);
  expect(authority.store.certificatesBySerial(elsewhere.serial)[0]?.revoked).toBeUndefined();
});

test('an operator: what came of his tokens, and the tokens; entries stay', async () => {
  const [one, two] = [await issue('a'), await issue('b')];
  expect(await verbs.preview({ operator: 'uid:0' }, 'superseded')).toMatchObject({
    ...{ certificateCount: 2, joinTokenCount: 2, revokesTokenCount: 2, suspendsEntryCount: 0 },
    validUntil: rfc3339(one.record.notAfterMs),
  });
  expect(await codeOf(() => revoke({ operator: 'uid:7' }))).toBe('request-not-found');
  expect(serials(await revoke({ operator: 'uid:0' }))).toEqual(sorted(one.record, two.record));
  expect(authority.store.token(one.tokenId)?.revokedAtMs).toBeDefined();
  expect(authority.store.entry(one.entry.entryId)?.suspendedAtMs).toBeUndefined();
  expect(await codeOf(() => authority.issuance.issue(requestFor(two.entry, two.tokenId)))).toBe(
    'denied-token-revoked',
  );
});

describe('what was issued between two times', () => {
  const at = () => rfc3339(authority.clock.now());
  const minute = () => authority.clock.pass(60_000);

  test('goes with its renewals, and nothing from before or after', async () => {
    const before = await issue('orders');
    minute();
    const from = at();
    const within = await issue('orders');
    const to = at();
    minute();
    const renewed = (await renew(within)).record;
    const after = await issue('orders');
    const target = { issuedBetween: `${from}..${to}` };
    expect(serials(await revoke(target))).toEqual(sorted(within.record, renewed));
    for (const one of [before, after]) expect(await codeOf(() => renew(one))).toBe('allowed');
  });

  test('takes a renewal along whose predecessor has expired', async () => {
    const within = await issue('orders');
    const span = `${rfc3339(within.record.issuedAtMs)}..${at()}`;
    authority.clock.pass(1800_000);
    const renewed = (await renew(within)).record;
    authority.clock.pass(1900_000);
    expect(serials(await revoke({ issuedBetween: span }))).toEqual(sorted(renewed));
  });

  test('narrows another, which suspends nothing then', async () => {
    const [mine, foreign] = [await issue('orders'), await issue('billing')];
    const issuedBetween = `${rfc3339(mine.record.issuedAtMs)}..`;
    expect(serials(await revoke({ id: mine.record.spiffeId, issuedBetween }))).toEqual(sorted(mine.record));
    expect(authority.store.entry(mine.entry.entryId)?.suspendedAtMs).toBeUndefined();
    expect(serials(await revoke({ operator: 'uid:0', issuedBetween }))).toEqual(sorted(foreign.record));
    expect(authority.store.token(foreign.tokenId)?.revokedAtMs).toBeUndefined();
  });

  test.each([
    ['backwards', () => [at(), rfc3339(authority.clock.now() - 60_000)], /is after/],
    ['into the future', () => [at(), rfc3339(authority.clock.now() + 60_000)], /yet to come/],
    ['from the future', () => [rfc3339(authority.clock.now() + 60_000), ''], /is after now/],
    ['on a day that is none', () => ['2026-02-30T00:00:00Z', ''], /RFC 3339/],
    ['three times', () => [at(), at(), at()], /FROM\.\.TO/],
  ])('%s is refused', async (_what, times, words) => {
    await issue();
    await expect(revoke({ issuedBetween: times().join('..') })).rejects.toThrow(words);
  });
});
