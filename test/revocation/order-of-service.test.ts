import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, expect, it } from 'vitest';
import type { PublishedCrl } from '../../src/revocation/published-crls.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { eventually } from '../support/running.ts';
import {
  freshKey,
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

/** Of a token that makes 200 signatures a second. */
const signMs = 5;
const enrollments = 500;

let authority: SoftwareAuthority;
let publisher: CrlPublisher;
let revocation: Revocation;

beforeEach(async () => {
  authority = await softwareAuthority({ limits: { waitMs: 60_000 } });
  publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: (_crl: PublishedCrl) => undefined,
    alarm: (scope, problems) => expect.fail(`${scope}: ${problems.join()}`),
  });
  await publisher.start();
  revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  await eventually(() => publisher.current().length === 18);
});

afterEach(async () => {
  await publisher.close();
  await authority.close();
});

it(`a revocation asked for behind ${enrollments} first enrollments is published before the next few batches are done, and a renewal soon after`, async () => {
  const { entry, tokenId } = await registered(authority, 'orders', { uses: 1000 });
  const { record } = await authority.issuance.issue(requestFor(entry, tokenId));
  const runs = await authority.issuance.issue(requestFor(entry, tokenId));
  authority.signer.beforeAnswer = ({ items }) => sleep(signMs * items.length);
  let served = 0;
  const key = freshKey();
  const enrolling = Array.from({ length: enrollments }, async () => {
    await authority.issuance.issue(requestFor(entry, tokenId));
    served += 1;
  });
  await eventually(() => served > 0);
  const before = served;
  const renewing = authority.issuance
    .issue({ ...requestFor(entry, undefined, key), predecessor: runs.record })
    .then(() => served - before);
  const target = { by: 'serial', serial: record.serial, only: true } as const;
  const { published } = await revocation.revoke(target, 'keyCompromise', 'uid:0');
  expect(published).toBe(true);
  // The two batches that the signer had already.
  expect(served - before).toBeLessThanOrEqual(2 * 64);
  // And those that were on their way while it waited for room.
  expect(await renewing).toBeLessThanOrEqual(4 * 64);
  await Promise.all(enrolling);
}, 60_000);
