import { afterEach, beforeEach, expect, it } from 'vitest';
import { LastCrls } from '../../src/revocation/last-crls.ts';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { CrlPublishers } from '../../src/revocation/publishers.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { readPublished } from '../support/crl-bytes.ts';
import { eventually } from '../support/running.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

const hourMs = 3600_000;
const shardCount = 16;

let authority: SoftwareAuthority;
let mayIssue: boolean;
let published: PublishedCrl[];
let publishers: CrlPublishers;
let last: LastCrls;

async function open(): Promise<void> {
  const { store, issuer } = authority;
  last = new LastCrls({ store, shardCount, issuers: { mayIssue: () => mayIssue } });
  const stored = await last.stored([issuer], publicationUrl);
  const publisher = new CrlPublisher({
    ...{ ...authority, publicationUrl, shardCount },
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: (crl) => published.push(crl),
    alarm: (scope, problems) => expect.fail(`${scope}: ${problems.join()}`),
  });
  publishers = new CrlPublishers(stored.length > 0 ? [] : [publisher], { last, stored });
  await publishers.start();
  // The full CRL, the shards, the delta; of those that have ended the base, too.
  await eventually(() => publishers.current().length >= shardCount + 2);
}

beforeEach(async () => {
  authority = await softwareAuthority();
  mayIssue = true;
  published = [];
  await open();
});
afterEach(async () => {
  await publishers.close();
  await authority.close();
});

/** The schedule as the server runs it, after `hours` more. */
async function pass(hours: number): Promise<void> {
  const before = published.length;
  authority.clock.pass(hours * hourMs);
  await publishers.publishDue();
  if (!publishers.hasEnded(authority.issuer.keyId))
    // The full CRL is then the base, and the delta of it comes after it.
    await eventually(() => published.length >= before + shardCount + 4);
}

const numbers = () => publishers.current().map(({ crlNumber }) => crlNumber);
const full = () => publishers.current().find(({ scope }) => scope === 'full');

it('an issuer that issues no more takes revocations and keeps its schedule until all that it issued has expired', async () => {
  const { issuer } = authority;
  const { entry, tokenId } = await registered(authority);
  const issued = await authority.issuance.issue({
    ...requestFor(entry, tokenId),
    lifetimeSeconds: 20 * 3600,
  });
  const { serial, notAfterMs } = issued.record;
  mayIssue = false;
  await pass(9);
  const revocation = new Revocation({ ...authority, publisher: publishers, shardCount });
  const revoked = await revocation.revoke({ by: 'serial', serial, only: true }, 'superseded', 'uid:0');
  expect(revoked.published).toBe(true);
  await pass(9);
  expect(publishers.hasEnded(issuer.keyId), 'a certificate has not expired').toBe(false);
  await pass(9);
  expect(authority.clock.now()).toBeGreaterThan(notAfterMs);
  expect(publishers.hasEnded(issuer.keyId)).toBe(true);
  const [final] = [full()].map((crl) => crl && readPublished(crl));
  expect(final?.has(serial), 'RFC 5280 §3.3: once more after its end').toBe(true);
  expect((final?.nextUpdateSeconds ?? 0) * 1000).toBeGreaterThan(notAfterMs);

  const before = numbers();
  await pass(48);
  expect(publishers.problems(), 'past its nextUpdate, and nobody needs it').toEqual([]);
  expect(await publishers.publishNow(1_000)).toBe(true);
  expect(numbers()).toEqual(before);

  await authority.sequencer.storeSigned();
  await publishers.close();
  const leaves = authority.store.treeSize();
  await open();
  await pass(9);
  expect(numbers(), 'served after a restart').toEqual(before);
  expect(authority.store.treeSize()).toBe(leaves);
});

it('one that issues goes on for ever', async () => {
  for (let day = 0; day < 3; day += 1) await pass(24);
  expect(publishers.hasEnded(authority.issuer.keyId)).toBe(false);
});
