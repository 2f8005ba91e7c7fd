import type { TrustDomain } from '../core/spiffe-id.ts';

/** Origin of the log that the root's statement of this sequence opens; that of `vouch init`, the first, has no number. */
export function logOriginOf(trustDomain: TrustDomain, sequence: number): string {
  return sequence === 1 ? `${trustDomain}/vouch-log` : `${trustDomain}/vouch-log-${sequence}`;
}

/** Sequence of the statement that opened the log of this origin. */
export function sequenceOfOrigin(origin: string): number {
  return Number(/\/vouch-log-(\d+)$/.exec(origin)?.[1] ?? 1);
}
