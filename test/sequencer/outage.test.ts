import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import {
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

let authority: SoftwareAuthority;
let nowMs = 0;

beforeEach(async () => {
  authority = await softwareAuthority();
  nowMs = performance.now();
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs);
});

afterEach(async () => {
  vi.restoreAllMocks();
  await authority.close();
});

/** What an enrollment ends with while the signer does not sign, and whether it was committed for it. */
async function attempt(name: string): Promise<{ failed: unknown; leaves: number }> {
  const { entry, tokenId } = await registered(authority, name);
  const before = authority.store.treeSize();
  const failed = await authority.issuance.issue(requestFor(entry, tokenId)).catch((error: unknown) => error);
  return { failed, leaves: authority.store.treeSize() - before };
}

it('a respawn is waited for; past three seconds nothing is committed that cannot be signed', async () => {
  authority.signer.state = 'degraded';
  expect((await attempt('one')).leaves).toBe(1);
  nowMs += 3_500;
  const late = await attempt('two');
  expect(late.leaves).toBe(0);
  expect(late.failed).toMatchObject({ code: 'unavailable-signer' });
});

it('each outage is waited for anew, however long ago the one before it was', async () => {
  authority.signer.state = 'degraded';
  expect((await attempt('one')).leaves).toBe(1);
  // The signer is back and takes up the tree; nobody enrolls for an hour.
  authority.sequencer.adoptCheckpoint(authority.sequencer.checkpoint()?.note ?? '');
  nowMs += 3_600_000;
  expect((await attempt('two')).leaves).toBe(1);
});
