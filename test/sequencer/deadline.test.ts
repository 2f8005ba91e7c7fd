import { afterEach, beforeEach, expect, it } from 'vitest';
import { eventually } from '../support/running.ts';
import {
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';
import { limitMs } from '../support/limits.ts';

const waitMs = 400;
let authority: SoftwareAuthority;
/** Lets the signer answer the batches that it was given. */
let answer: () => void;

beforeEach(async () => {
  authority = await softwareAuthority({ limits: { waitMs } });
  const { promise, resolve } = Promise.withResolvers<void>();
  answer = resolve;
  authority.signer.beforeAppend = () => promise;
});

afterEach(async () => {
  answer();
  await authority.close();
});

/** Asks for so many certificates at once; what each ended with, and when. */
async function issuing(count: number) {
  const { entry, tokenId } = await registered(authority, 'orders', { uses: 1000 });
  const startedMs = performance.now();
  return Array.from({ length: count }, async () => {
    const outcome = await authority.issuance
      .issue(requestFor(entry, tokenId))
      .catch((error: unknown) => error as Error);
    return { outcome, ms: performance.now() - startedMs };
  });
}

it('who waits behind batches that the signer does not answer waits no longer than who is in them', async () => {
  const attempts = await Promise.all(await issuing(300));
  for (const { outcome, ms } of attempts) {
    expect(outcome).toMatchObject({ code: 'unavailable-signer', retryAfterSeconds: expect.any(Number) });
    expect(ms).toBeLessThan(waitMs + limitMs(300));
  }
});

it('who was not committed by then leaves nothing in the log, then or later', async () => {
  const attempting = await issuing(300);
  const before = authority.store.treeSize();
  await Promise.all(attempting);
  const after = authority.store.treeSize();
  expect(after - before).toBeLessThanOrEqual(2 * 64);
  answer();
  await registered(authority, 'later');
  expect(authority.store.treeSize()).toBe(after + 1);
});

it('a signature that comes too late for its request is kept for who asks again', async () => {
  const { entry, tokenId } = await registered(authority);
  const request = requestFor(entry, tokenId);
  await expect(authority.issuance.issue(request)).rejects.toMatchObject({ code: 'unavailable-signer' });
  answer();
  const { sha256 } = request.publicKey;
  await eventually(() => authority.store.certificateOfTokenUse(tokenId, sha256)?.signature !== undefined);
  const again = await authority.issuance.issue(request);
  expect(again.record.spkiSha256).toBe(sha256);
});
