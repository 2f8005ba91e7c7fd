// What an agent gets in the name of its workloads: its own entries' certificates, each on its own, and nothing else.
import { setImmediate as aTurn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { verifyState } from '../../src/audit/verify-state.ts';
import { Svids } from '../../src/enrollment/svids.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { nameText } from '../../src/x509/name.ts';
import { codeOf } from '../invariants/support/refusal.ts';
import { publicationUrl, type SoftwareAuthority, softwareAuthority } from '../support/software-authority.ts';
import { longestTurnMs } from '../support/turns.ts';
import { Agent, newKey } from './agent.ts';

let authority: SoftwareAuthority;
let svids: Svids;
let agent: Agent;

beforeEach(async () => {
  authority = await softwareAuthority();
  svids = new Svids({ ...authority, limits: { atOnce: 10_000, perLifetime: 4 } });
  agent = await Agent.enrolled(authority);
});
afterEach(() => authority.close());

const entryLeaf = (event: string, entryId: string) =>
  recordLeaf('entry', authority.clock.now(), { event, entryId, operator: 'uid:0' });
const suspend = (entryId: string) =>
  authority.sequencer.record({
    ...{
      kind: 'entry-suspended',
      entryId,
      atMs: authority.clock.now(),
      leaf: entryLeaf('suspended', entryId),
    },
  });
const remove = (entryId: string) =>
  authority.sequencer.record({
    ...{
      kind: 'entry-deleted',
      entryId,
      parentId: undefined,
      atMs: authority.clock.now(),
      leaf: entryLeaf('deleted', entryId),
    },
  });
const ended = (serial: string) =>
  authority.store.certificates({ limit: 100 }).find((one) => one.serial === serial)?.revoked !== undefined;

/** With a publisher that publishes to nobody. */
async function revocationOf(): Promise<Revocation> {
  const publisher = new CrlPublisher({
    ...{ ...authority, publicationUrl, shardCount: 16 },
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: () => undefined,
    alarm: () => undefined,
  });
  await publisher.start();
  return new Revocation({ ...authority, publisher, shardCount: 16 });
}

describe('a certificate', () => {
  test("has the entry's names, and says who asked for it", async () => {
    const entry = await agent.workload('web', { ipAddresses: ['192.0.2.1'] });
    const { der, record } = await agent.ask(svids, entry);
    const { uris, dnsNames, ipAddresses } = parseCertificate(der);
    expect({ uris, dnsNames, ipAddresses }).toEqual({
      ...{ uris: [entry.spiffeId], dnsNames: ['web.test.example'], ipAddresses: ['192.0.2.1'] },
    });
    const stored = authority.store.certificate(record.issuerKeyId, record.serial);
    expect(stored).toMatchObject({ agent: agent.entry.spiffeId, entryId: entry.entryId, tokenId: undefined });
    expect(JSON.parse(record.decision)).toEqual({
      ...{ kind: 'svid', agent: agent.entry.spiffeId, agentSerial: agent.standing.serial },
      ...{ entry: entry.entryId, entryVersion: 1, spiffeId: entry.spiffeId },
      ...{ requestId: 'test', peerAddress: '192.0.2.7', profile: 'default' },
      profileSha256: expect.stringMatching(/^[0-9a-f]{64}$/) as unknown,
    });
  });

  test('stays in the lineage of the one it replaces', async () => {
    const entry = await agent.workload('web');
    const first = await agent.ask(svids, entry);
    const next = await agent.ask(svids, entry, { predecessor: first.record.serial });
    expect(next.record).toMatchObject({ predecessor: first.record.serial, lineage: first.record.serial });
    const revocation = await revocationOf();
    await revocation.revoke(
      { by: 'serial', serial: first.record.serial, only: false },
      'superseded',
      'uid:0',
    );
    expect([first, next].map(({ record }) => ended(record.serial))).toEqual([true, true]);
  });

  test('has the first DNS name as its subject, where the entry wants that', async () => {
    const entry = await agent.workload('db', {
      profile: 'cn-first-dns',
      dnsNames: ['db.test.example', 'db2.test.example'],
    });
    const { der } = await agent.ask(svids, entry);
    const { subjectName, sanCritical, dnsNames } = parseCertificate(der);
    expect({ subject: nameText(subjectName), sanCritical, dnsNames }).toEqual({
      ...{ subject: 'CN=db.test.example', sanCritical: false },
      dnsNames: ['db.test.example', 'db2.test.example'],
    });
  });

  test('has each name once, however often and in whatever spelling the operator gave it', async () => {
    const entry = await agent.workload('twice', {
      selectors: ['unix:uid:1', 'unix:gid:2', 'unix:uid:1'],
      dnsNames: ['b.test.example', 'a.test.example', 'b.test.example'],
      ipAddresses: ['2001:db8::1', '2001:0DB8:0:0::1'],
      allowedClients: [agent.entry.spiffeId, agent.entry.spiffeId],
    });
    expect(entry).toMatchObject({
      selectors: [
        { type: 'unix', value: 'uid:1' },
        { type: 'unix', value: 'gid:2' },
      ],
      allowedClients: [agent.entry.spiffeId],
    });
    const { dnsNames, ipAddresses } = parseCertificate((await agent.ask(svids, entry)).der);
    expect({ dnsNames, ipAddresses }).toEqual({
      ...{ dnsNames: ['b.test.example', 'a.test.example'], ipAddresses: ['2001:db8::1'] },
    });
  });

  test('is found good by an audit, with what it renewed', async () => {
    const entry = await agent.workload('web');
    const { record } = await agent.ask(svids, entry);
    await agent.ask(svids, entry, { predecessor: record.serial });
    await authority.sequencer.storeSigned();
    const { problems, certificates } = verifyState(authority.store, undefined, () => undefined);
    expect(problems).toEqual([]);
    expect(certificates).toBe(3);
  });
});

test('selectors of any script are found good by an audit', async () => {
  // In UTF-16 these two sort the other way round than in UTF-8.
  await agent.workload('web', {
    selectors: ['unix:user:\u{1f600}', 'unix:user:\u{ff61}', 'unix:path:/a b/é'],
  });
  await authority.sequencer.storeSigned();
  expect(verifyState(authority.store, undefined, () => undefined).problems).toEqual([]);
});

describe('refused is', () => {
  test("another agent's entry, as one that is not there", async () => {
    const other = await Agent.enrolled(authority, 'agent-2');
    const entry = await other.workload('db');
    const refusal = async (entryId: string) => agent.ask(svids, { entryId }).catch(String);
    expect(await refusal(entry.entryId)).toMatch(/no registration entry of this agent has this id$/);
    expect(await refusal('e_0123456789abcdef')).toMatch(/no registration entry of this agent has this id$/);
    expect(await refusal(agent.entry.entryId)).toMatch(/no registration entry of this agent has this id$/);
  });

  test('an entry that is suspended or deleted', async () => {
    const [suspended, deleted] = [await agent.workload('a'), await agent.workload('b')];
    await suspend(suspended.entryId);
    await remove(deleted.entryId);
    expect(await codeOf(() => agent.ask(svids, suspended))).toBe('denied-suspended');
    expect(await codeOf(() => agent.ask(svids, deleted))).toBe('denied-no-entry');
  });

  test('a CSR that asks for more, or is not honest', async () => {
    const entry = await agent.workload('web');
    const key = newKey();
    const refused = async (csr: Buffer) => codeOf(() => agent.ask(svids, entry, { csr }));
    expect(await refused(buildCsr(key, { dnsNames: ['db.test.example'] }))).toBe('policy-names');
    expect(await refused(buildCsr(key, { uris: [agent.entry.spiffeId] }))).toBe('policy-names');
    expect(await refused(Buffer.from('no request'))).toBe('request-csr');
    const forged = buildCsr(key);
    forged[forged.length - 1] = (forged.at(-1) ?? 0) ^ 1;
    expect(await refused(forged)).toBe('request-csr');
    expect(await codeOf(() => agent.ask(svids, entry, { csr: Buffer.alloc(16_385) }))).toBe('request-csr');
  });

  test('a predecessor of another entry or agent, or one that is revoked or has expired', async () => {
    const [web, db] = [await agent.workload('web'), await agent.workload('db')];
    const other = await Agent.enrolled(authority, 'agent-2');
    const elsewhere = await other.ask(svids, await other.workload('web'));
    const ofDb = await agent.ask(svids, db);
    const refused = (predecessor: string) => codeOf(() => agent.ask(svids, web, { predecessor }));
    expect(await refused(ofDb.record.serial)).toBe('denied-certificate');
    expect(await refused(elsewhere.record.serial)).toBe('denied-certificate');
    expect(await refused(agent.standing.serial)).toBe('denied-certificate');
    expect(await refused('2a'.padEnd(34, '0'))).toBe('denied-certificate');
    expect(await refused('nothing')).toBe('request-malformed');
    const { serial } = (await agent.ask(svids, web)).record;
    const revocation = await revocationOf();
    await revocation.revoke({ by: 'serial', serial, only: true }, 'superseded', 'uid:0');
    expect(await refused(serial)).toBe('denied-revoked');
  });

  test('the key that it has already', async () => {
    const entry = await agent.workload('web');
    const csr = buildCsr(newKey());
    const { record } = await agent.ask(svids, entry, { csr });
    expect(await codeOf(() => agent.ask(svids, entry, { csr, predecessor: record.serial }))).toBe(
      'request-key',
    );
  });

  test('a key that another identity has, or is about to get, of whichever agent', async () => {
    const [web, db] = [await agent.workload('web'), await agent.workload('db')];
    const other = await Agent.enrolled(authority, 'agent-2');
    const elsewhere = await other.workload('queue');
    const csr = buildCsr(newKey());
    const asked = [web, db].map((entry) => codeOf(() => agent.ask(svids, entry, { csr })));
    expect(await Promise.all(asked)).toEqual(['allowed', 'request-key']);
    expect(await codeOf(() => agent.ask(svids, db, { csr }))).toBe('request-key');
    expect(await codeOf(() => other.ask(svids, elsewhere, { csr }))).toBe('request-key');
  });

  test('a key that was compromised, also when its certificate has expired', async () => {
    const entry = await agent.workload('web');
    const csr = buildCsr(newKey());
    const { serial } = (await agent.ask(svids, entry, { csr })).record;
    const revocation = await revocationOf();
    await revocation.revoke({ by: 'serial', serial, only: true }, 'keyCompromise', 'uid:0');
    expect(await codeOf(() => agent.ask(svids, entry, { csr }))).toBe('request-key');
    authority.clock.pass(3_700_000);
    const later = await Agent.enrolled(authority, 'agent-2');
    const unblocked = await later.workload('db');
    expect(await codeOf(() => later.ask(svids, unblocked, { csr }))).toBe('policy-key-blocked');
  });

  test('whoever did not enroll himself', async () => {
    const entry = await agent.workload('web');
    const workload = await agent.ask(svids, entry);
    const below = await agent.workload('below', { parentId: entry.spiffeId });
    const standing = authority.store.certificate(authority.issuer.keyId, workload.record.serial);
    if (!standing) throw new Error('it was issued');
    const call = { agent: standing, channel: { peerAddress: '', requestId: '' }, room: 1 << 20 };
    const request = { entryId: below.entryId, csr: buildCsr(newKey()).toString('base64') };
    expect(await codeOf(() => svids.issue(request, call))).toBe('denied-certificate');
  });

  test('what would make the answer larger than it may be', async () => {
    const dnsNames = Array.from(
      { length: 50 },
      (_, index) => `${'a'.repeat(60)}.${'b'.repeat(60)}.n${index}.test`,
    );
    const entry = await agent.workload('web', { dnsNames });
    const call = { agent: agent.standing, channel: { peerAddress: '', requestId: '' }, room: 30_000 };
    const ask = () =>
      svids.issue({ entryId: entry.entryId, csr: buildCsr(newKey()).toString('base64') }, call);
    const { der } = await ask();
    expect(der.length * (4 / 3)).toBeLessThan(30_000 - call.room);
    expect(await codeOf(ask)).toBe('request-too-large');
  });
});

describe('what changes while a call is in flight', () => {
  /** Asks, and lets this happen after it was checked and before it is committed. */
  async function meanwhile(happens: () => Promise<unknown>, predecessor?: string): Promise<string> {
    const entry = authority.store.entries({ limit: 9, parentId: agent.entry.spiffeId }).at(-1);
    if (!entry) throw new Error('an entry is there');
    const sign = authority.sequencer.sign.bind(authority.sequencer);
    authority.sequencer.sign = async (submission) => {
      if (submission.purpose === 'certificate') await happens();
      return sign(submission);
    };
    const code = await codeOf(() => agent.ask(svids, entry, { predecessor }));
    authority.sequencer.sign = sign;
    return code;
  }

  test('is looked at again in the transaction that would issue', async () => {
    const entry = await agent.workload('web');
    const { serial } = (await agent.ask(svids, entry)).record;
    const revocation = await revocationOf();
    const revoke = (what: string) => () =>
      revocation.revoke({ by: 'serial', serial: what as typeof serial, only: true }, 'superseded', 'uid:0');
    expect(await meanwhile(revoke(serial), serial)).toBe('denied-revoked');
    expect(await meanwhile(() => suspend(entry.entryId))).toMatch(/denied-suspended|policy-entry-changed/);
    await authority.sequencer.record({
      ...{ kind: 'entry-resumed', entryId: entry.entryId, leaf: entryLeaf('resumed', entry.entryId) },
    });
    expect(await meanwhile(() => suspend(agent.entry.entryId))).toBe('denied-suspended');
    await authority.sequencer.record({
      ...{
        kind: 'entry-resumed',
        entryId: agent.entry.entryId,
        leaf: entryLeaf('resumed', agent.entry.entryId),
      },
    });
    expect(await meanwhile(() => remove(entry.entryId))).toBe('policy-entry-changed');
    await agent.workload('db');
    expect(await meanwhile(async () => undefined)).toBe('allowed');
    expect(await meanwhile(revoke(agent.standing.serial))).toBe('denied-revoked');
  });

  test('where the agent itself is deleted', async () => {
    await agent.workload('web');
    expect(await meanwhile(() => remove(agent.entry.entryId))).toBe('denied-suspended');
  });

  test('where the agent is revoked with all it got: nothing of that survives, whenever it comes', async () => {
    const entries = await Promise.all(Array.from({ length: 40 }, (_, index) => agent.workload(`w${index}`)));
    const revocation = await revocationOf();
    const { standing } = agent;
    const isRevoked = Promise.withResolvers<void>();
    const sign = authority.sequencer.sign.bind(authority.sequencer);
    let prepared = 0;
    authority.sequencer.sign = async (submission) => {
      // Every second one is checked before, and reaches the log when all is done.
      if (submission.purpose === 'certificate' && prepared++ % 2 === 1) await isRevoked.promise;
      return sign(submission);
    };
    const asking = entries.map((entry) => codeOf(() => agent.ask(svids, entry)));
    await until(() => authority.store.certificates({ limit: 1 })[0]?.agent !== undefined);
    await revocation.revoke({ by: 'agent', agentId: standing.spiffeId }, 'keyCompromise', 'uid:0');
    isRevoked.resolve();
    await Promise.all(asking);
    expect(prepared).toBe(40);
    const all = authority.store.certificates({ limit: 1000 });
    const ofAgent = all.filter(
      (one) => one.agent === standing.spiffeId || one.spiffeId === standing.spiffeId,
    );
    expect(ofAgent.length).toBeGreaterThan(1);
    expect(ofAgent.filter(({ revoked }) => revoked === undefined)).toEqual([]);
  });
});

describe('many at once', () => {
  test('are committed together, and one that is bad leaves the others alone', async () => {
    const entry = await agent.workload('web');
    const before = authority.signer.asked.length;
    const bad = { entryId: 'e_none' };
    const asked = Array.from({ length: 512 }, (_, index) =>
      agent.ask(svids, index % 100 === 50 ? bad : entry),
    );
    const results = await Promise.allSettled(asked);
    expect(results.filter(({ status }) => status === 'rejected')).toHaveLength(5);
    expect(authority.signer.asked.length - before).toBeLessThan(512 / 8);
  });

  test('take no turn for longer than 20 ms of processor time', async () => {
    const entry = await agent.workload('web');
    const rounds = ['P-256', 'P-384', 'P-256'].map((namedCurve) =>
      Array.from({ length: 512 }, () => buildCsr(newKey(namedCurve))),
    );
    // The signer is another process.
    authority.signer.beforeAppend = () => aTurn();
    authority.signer.beforeAnswer = () => aTurn();
    const longest = [];
    for (const csrs of rounds)
      longest.push(
        await longestTurnMs(() => Promise.all(csrs.map((csr) => agent.ask(svids, entry, { csr })))),
      );
    expect(Math.min(...longest)).toBeLessThan(20);
  });

  test('who asks for one does not wait for all of who asks for hundreds', async () => {
    const [entry, other] = [await agent.workload('web'), await Agent.enrolled(authority, 'agent-2')];
    const small = await other.workload('db');
    let done = 0;
    const many = Array.from({ length: 512 }, () => agent.ask(svids, entry).then(() => (done += 1)));
    await other.ask(svids, small);
    expect(done).toBeLessThan(128);
    await Promise.all(many);
  });

  test('renewals come first, and first ones have their share', async () => {
    const entry = await agent.workload('web');
    const old = await agent.ask(svids, entry);
    const order: string[] = [];
    const ask = async (what: string, predecessor?: string) => {
      await agent.ask(svids, entry, { predecessor });
      order.push(what);
    };
    const firsts = Array.from({ length: 50 }, () => ask('first'));
    const renewals = Array.from({ length: 50 }, () => ask('renewal', old.record.serial));
    await Promise.all([...firsts, ...renewals]);
    expect(order.slice(0, 64).filter((what) => what === 'renewal')).toHaveLength(48);
  });
});

describe('many for long', () => {
  const limits = { atOnce: 6, perLifetime: 4 };
  /** How many of so many attempts for an entry bring a certificate. */
  const got = async (entry: { entryId: string }, attempts: number): Promise<number> => {
    let count = 0;
    for (let index = 0; index < attempts; index += 1)
      if ((await codeOf(() => agent.ask(svids, entry))) === 'allowed') count += 1;
    return count;
  };

  beforeEach(() => {
    svids = new Svids({ ...authority, limits });
  });

  test('an entry has so many at once, and then some in a lifetime; the refusal says which and when', async () => {
    const entry = await agent.workload('web');
    for (const name of ['a', 'b', 'c']) await agent.workload(name);
    expect(await got(entry, 20)).toBe(6);
    const refusal: unknown = await agent.ask(svids, entry).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ code: 'unavailable-rate-limited' });
    expect(String(refusal)).toContain(`${entry.entryId} (${entry.spiffeId})`);
    const { retryAfterSeconds = 0 } = refusal as { retryAfterSeconds?: number };
    expect(retryAfterSeconds).toBeCloseTo(3600 / 16, 0);
    authority.clock.pass(retryAfterSeconds * 1000 + 1);
    expect(await got(entry, 5)).toBe(1);
  });

  test('an agent has so many for all its entries together, and its others go on', async () => {
    const other = await Agent.enrolled(authority, 'agent-2');
    const theirs = await other.workload('queue');
    const entries = await Promise.all(['a', 'b', 'c'].map((name) => agent.workload(name)));
    let all = 0;
    for (const entry of entries) all += await got(entry, 10);
    // Three times six; 6 + 3 * 4 at once.
    expect(all).toBe(18);
    expect(await codeOf(() => other.ask(svids, theirs))).toBe('allowed');
    let later = 0;
    for (let sixteenth = 0; sixteenth < 15; sixteenth += 1) {
      authority.clock.pass(3_600_000 / 16);
      for (const entry of entries) later += await got(entry, 3);
    }
    // Four of each in an hour; by itself each entry would have one of each sixteenth.
    expect(later).toBe(11);
  });

  test('what nobody got is not counted', async () => {
    const entry = await agent.workload('web');
    const sign = authority.sequencer.sign.bind(authority.sequencer);
    authority.sequencer.sign = () => Promise.reject(new VouchError('unavailable-signer', 'away'));
    expect(await got(entry, 20)).toBe(0);
    authority.sequencer.sign = sign;
    expect(await got(entry, 20)).toBe(6);
  });

  test('a restart with all certificates at once, an order to renew and another restart are no storm', async () => {
    svids = new Svids({ ...authority, limits: { atOnce: 60, perLifetime: 4 } });
    const entries = await Promise.all(Array.from({ length: 200 }, (_, index) => agent.workload(`w${index}`)));
    for (let round = 0; round < 3; round += 1)
      await Promise.all(entries.map((entry) => agent.ask(svids, entry)));
  });
});

test('two greedy agents keep a third from nothing', async () => {
  const greedy = [agent, await Agent.enrolled(authority, 'agent-2')];
  const third = await Agent.enrolled(authority, 'agent-3');
  const entries = await Promise.all(greedy.map((one) => one.workload(`of-${one.entry.entryId.slice(2)}`)));
  const small = await Promise.all(Array.from({ length: 20 }, (_, index) => third.workload(`w${index}`)));
  const csr = buildCsr(newKey());
  const asked = entries.flatMap((entry, index) =>
    Array.from({ length: 2000 }, () => codeOf(() => (greedy[index] ?? agent).ask(svids, entry, { csr }))),
  );
  await Promise.all(small.map((entry) => third.ask(svids, entry)));
  const refused = (await Promise.all(asked)).filter((code) => code === 'unavailable-overloaded');
  expect(refused.length).toBeGreaterThanOrEqual(4000 - 1536);
});

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await new Promise(setImmediate);
}
