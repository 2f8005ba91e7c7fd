import { setImmediate as aTurn } from 'node:timers/promises';
import type { StoreReader } from '../store/port.ts';

/** Leaves that are read in one go: a few milliseconds. */
const sliceLeaves = 2_000;

/** What an issuer has issued: when the last of it ends, Unix milliseconds, 0 where there is none; and how much had not at `nowMs`. */
export async function issuedBy(
  store: Pick<StoreReader, 'issuedBy' | 'treeSize'>,
  issuerKeyId: string,
  nowMs: number,
): Promise<{ lastNotAfterMs: number; unexpired: number }> {
  const sum = { lastNotAfterMs: 0, unexpired: 0 };
  for (let from = 0; from < store.treeSize(); from += sliceLeaves) {
    const slice = store.issuedBy(issuerKeyId, { from, to: from + sliceLeaves }, nowMs);
    sum.lastNotAfterMs = Math.max(sum.lastNotAfterMs, slice.lastNotAfterMs);
    sum.unexpired += slice.unexpired;
    await aTurn();
  }
  return sum;
}
