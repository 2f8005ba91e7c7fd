import { rfc3339 } from '../core/clock.ts';
import type { Reason } from '../core/reasons.ts';
import type { Serial } from '../core/serial.ts';
import type { RevocationRecord } from '../store/records.ts';

/** What of a revocation is listed one by one; what is more is counted. */
export const listedMost = 1000;

/** The answer to `vouch revoke`. */
export interface RevocationResult {
  /** The first thousand, and how many there are. */
  revoked: { serial: Serial; revokedAt: string; reason: Reason; logIndex: number }[];
  revokedCount: number;
  /** For a reason as bad or worse, which stays. The first thousand. */
  alreadyRevoked: Serial[];
  alreadyRevokedCount: number;
  /**
   * Certificates that ended before and got no other reason, whose keys are blocked from now on: expired ones, and one
   * that was ended for another issuer to answer, which none will.
   */
  keysBlocked: Serial[];
  crlNumber: number | null;
  crlUrl: string | null;
  /** False: recorded and durable, but no CRL carries it yet; it will be published without further action. */
  published: boolean;
}

/** Counts what a revocation does; memory stays bounded however much that is. */
export class Tally {
  readonly revoked: RevocationResult['revoked'] = [];
  readonly #serials = new Set<Serial>();
  readonly #already = new Set<Serial>();
  readonly #keysBlocked = new Set<Serial>();
  /** The last event of each shard: what covers that covers all. */
  readonly #newest = new Map<string, RevocationRecord>();
  revokedCount = 0;
  #alreadyMore = 0;

  record(event: RevocationRecord): void {
    this.revokedCount += 1;
    const of = `${event.issuerKeyId}/${event.shard}`;
    if (event.leafIndex > (this.#newest.get(of)?.leafIndex ?? -1)) this.#newest.set(of, event);
    if (this.revoked.length >= listedMost) return;
    const { serial, revokedAtMs, reason, leafIndex: logIndex } = event;
    this.#serials.add(serial);
    this.revoked.push({ serial, revokedAt: rfc3339(revokedAtMs), reason, logIndex });
  }

  has(serial: Serial): boolean {
    return this.#serials.has(serial);
  }

  already(serial: Serial): void {
    if (this.#already.has(serial)) return;
    if (this.#already.size < listedMost) this.#already.add(serial);
    else this.#alreadyMore += 1;
  }

  keyBlocked(serials: readonly Serial[]): void {
    for (const serial of serials) if (this.#keysBlocked.size < listedMost) this.#keysBlocked.add(serial);
  }

  /** What has to be published for all of it to be. */
  newest(): RevocationRecord[] {
    return [...this.#newest.values()];
  }

  counts(): Omit<RevocationResult, 'crlNumber' | 'crlUrl' | 'published'> {
    return {
      revoked: this.revoked,
      revokedCount: this.revokedCount,
      alreadyRevoked: [...this.#already],
      alreadyRevokedCount: this.#already.size + this.#alreadyMore,
      keysBlocked: [...this.#keysBlocked],
    };
  }
}
