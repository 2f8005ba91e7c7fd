// Revocations of many certificates: nobody waits for them, and nothing stops them for good.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { MassRevocations } from '../../src/revocation/mass.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { blastRadius } from '../../src/revocation/blast-radius.ts';
import type { Mutation } from '../../src/store/port.ts';
import { becomes, codeOf } from '../invariants/support/refusal.ts';
import { longestTurnMs } from '../support/turns.ts';
import {
  freshKey,
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { issueFor } from './issue-for.ts';

const target = { by: 'node', node: 'node-1' } as const;
const order = { reason: 'superseded', operator: 'uid:9' } as const;

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let mass: MassRevocations;

beforeEach(async () => {
  authority = await softwareAuthority();
  publisher = new CrlPublisher({
    ...{ ...authority, publicationUrl, shardCount: 16, timing: defaultCrlTiming },
    publish: () => undefined,
    alarm: (scope, problems) => expect.fail(`${scope}: ${problems.join()}`),
  });
  await publisher.start();
  mass = started();
});
afterEach(async () => {
  await mass.close();
  await publisher.close();
  await authority.close();
});

/** As a server has it when it starts. */
function started(): MassRevocations {
  const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  return new MassRevocations({ ...authority, revocation, failed: () => undefined });
}

async function many(count: number, node = 'node-1'): Promise<void> {
  for (let from = 0; from < count; from += 2000)
    await Promise.all(
      Array.from({ length: Math.min(2000, count - from) }, () => issueFor(authority, { node })),
    );
}

async function ended(leafIndex: number) {
  for (;;) {
    const { result } = await mass.progress(leafIndex, 100);
    if (result) return result;
  }
}

const live = (node = 'node-1') =>
  authority.store
    .unexpiredCertificates({ node }, authority.clock.now())
    .filter(({ revoked }) => revoked === undefined).length;

/** The verbs of the log's leaves of operators. */
function deeds(): string[] {
  const leaves = authority.store.leaves(0, authority.store.treeSize());
  return leaves.flatMap((leaf) => /"verb":"(mass-[a-z-]+)"/.exec(leaf.toString('latin1'))?.[1] ?? []);
}

test('21,000 certificates: finding and ending them holds nobody up, and what is listed is bounded', async () => {
  // What publishing them costs is measured where it is done.
  const unpublished = { add: () => undefined, published: () => Promise.resolve(undefined) };
  const revocation = new Revocation({ ...authority, publisher: unpublished, shardCount: 16 });
  mass = new MassRevocations({ ...authority, revocation, failed: (error) => expect.fail(String(error)) });
  const longest: number[] = [];
  for (const node of ['node-1', 'node-2', 'node-3']) {
    await many(7000, node);
    const which = { by: 'node', node } as const;
    let radius: Awaited<ReturnType<typeof blastRadius>> | undefined;
    const counts: number[] = [];
    const turnMs = await longestTurnMs(async () => {
      radius = await blastRadius(revocation.targets, which, 'superseded');
      const begun = await mass.begin(which, order);
      while ((await mass.progress(begun, 20)).result === undefined)
        counts.push((await mass.progress(begun, 0)).revokedCount);
      const { result } = await mass.progress(begun, 0);
      expect(result).toMatchObject({ revokedCount: 7000, alreadyRevokedCount: 0 });
      expect(result?.revoked).toHaveLength(1000);
    });
    longest.push(turnMs);
    expect(radius).toMatchObject({ certificateCount: 7000, identities: { count: 1 } });
    expect(counts.filter((count) => count > 0 && count < 7000).length).toBeGreaterThan(3);
    expect(live(node)).toBe(0);
  }
  // Of three, in which others of this machine, and what the test itself threw away, show as well.
  expect(Math.min(...longest)).toBeLessThan(20);
}, 180_000);

test('the same again joins the one that runs; the deed is its first operator’s', async () => {
  await many(300);
  const both = await Promise.all([
    mass.begin(target, order),
    mass.begin(target, { ...order, operator: 'uid:7' }),
  ]);
  const worse = await mass.begin(target, { ...order, reason: 'keyCompromise' });
  expect(both[0]).toBe(both[1]);
  expect(worse).not.toBe(both[0]);
  await ended(both[0]);
  await ended(worse);
  expect(authority.store.massRevocation(both[0])?.operator).toBe('uid:9');
  expect(deeds().filter((verb) => verb === 'mass-revocation-begun')).toHaveLength(2);
  // What is done is done: from now on the same is another one, and finds nothing to do.
  const again = await mass.begin(target, order);
  expect(again).not.toBe(both[0]);
  expect(await ended(again)).toMatchObject({ revokedCount: 0, alreadyRevokedCount: 300 });
});

test('what means nothing leaves no trace', async () => {
  const size = authority.store.treeSize();
  expect(await codeOf(() => mass.begin(target, order))).toBe('request-not-found');
  expect(authority.store.treeSize()).toBe(size);
});

test('a crash between any two steps: the next start goes on, and ends each once', async () => {
  const { entry } = await registered(authority, 'orders');
  await issueFor(authority, { node: 'node-1', entry, spiffeId: entry.spiffeId });
  await many(5);
  const record = authority.sequencer.record.bind(authority.sequencer);
  let starts = 0;
  for (let steps = 1; authority.store.unfinishedMassRevocations().length > 0 || starts === 0; steps += 1) {
    let left = steps % 3;
    authority.sequencer.record = (mutation: Mutation) => {
      left -= 1;
      return left < 0 ? Promise.reject(new Error('killed')) : record(mutation);
    };
    mass = started();
    if (starts === 0) starts += (await codeOf(() => mass.begin(target, order))) === 'allowed' ? 1 : 0;
    else mass.resume();
    await becomes(() => left < 0 || authority.store.unfinishedMassRevocations().length === 0);
    await mass.close();
  }
  authority.sequencer.record = record;
  expect(live()).toBe(0);
  expect(authority.store.entry(entry.entryId)?.suspendedAtMs).toBeDefined();
  const [only] = authority.store.rows().massRevocations(-1, 9);
  expect(authority.store.massRevocation(only?.leafIndex ?? -1)?.eventCount).toBe(6);
  expect(deeds()).toEqual(['mass-revocation-begun', 'mass-revocation-ended']);
  mass = started();
});

test('renewals that race it are taken, too', async () => {
  const { entry, tokenId } = await registered(authority, 'orders', { uses: 9 });
  const renewing = Array.from({ length: 4 }, async () => {
    let { record } = await authority.issuance.issue(requestFor(entry, tokenId));
    for (let count = 0; ; count += 1)
      try {
        const request = { ...requestFor(entry, undefined, freshKey()), predecessor: record };
        record = (await authority.issuance.issue(request)).record;
      } catch {
        return count;
      }
  });
  await becomes(() => authority.store.certificates({ limit: 99 }).length > 20);
  await ended(await mass.begin({ by: 'operator', operator: 'uid:0' }, order));
  expect(Math.min(...(await Promise.all(renewing)))).toBeGreaterThan(0);
  const all = authority.store.certificates({ limit: 1000 });
  expect(all.filter(({ revoked }) => revoked === undefined)).toEqual([]);
});
