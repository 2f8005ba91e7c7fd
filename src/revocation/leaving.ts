import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuer } from '../issuance/issuer.ts';
import { Slice } from '../jobs/slice.ts';
import type { Store } from '../store/port.ts';
import type { RevokedLists } from './revoked-lists.ts';

/** Rows that leave in one transaction, from lists of a million: some milliseconds. */
const atOnce = 100;

interface Parts {
  issuer: Pick<Issuer, 'keyId'>;
  store: Pick<Store, 'expiredStanding' | 'releaseExpired' | 'revocation'>;
  clockGuard: Pick<ClockGuard, 'doubt'>;
  lists: Pick<RevokedLists, 'remove'>;
}

/**
 * An entry may leave after it stood on a scheduled CRL whose thisUpdate is past its notAfter (RFC 5280 §3.3): with the
 * next scheduled one, so that the delta need not speak of it. `scheduledSeconds`: thisUpdate of the last scheduled CRL.
 * Yields between slices.
 */
export async function letExpiredLeave(
  { issuer, store, clockGuard, lists }: Parts,
  scheduledSeconds: number,
): Promise<void> {
  const slice = new Slice();
  while (clockGuard.doubt() === undefined) {
    const serials = store
      .expiredStanding(issuer.keyId, scheduledSeconds * 1000, atOnce)
      .map(({ serial }) => serial);
    if (serials.length > 0) await store.releaseExpired(issuer.keyId, serials);
    // The store decides by its own record of scheduled CRLs; what it kept stays on ours.
    const left = serials.filter((serial) => store.revocation(issuer.keyId, serial)?.mayLeave === true);
    if (left.length === 0) return;
    lists.remove(left);
    if (slice.isOver) await slice.turn();
  }
}
