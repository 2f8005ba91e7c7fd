import { crlShardUrl, fullCrlUrl } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { CrlRecord } from '../store/port.ts';
import { buildCrlTbs } from '../x509/crl-tbs.ts';
import type { Predecessor } from './publish-gate.ts';
import { fullScope, type RevokedSet, scopesOf } from './revoked-set.ts';

/** A CRL before it has a leaf and a signature. */
export interface CrlDraft extends Omit<CrlRecord, 'leafIndex' | 'signature' | 'tbs'> {
  tbs: Buffer;
  url: string;
  datesFixed: { serial: Serial; crlDateSeconds: number }[];
}

interface Parts {
  issuer: Issuer;
  publicationUrl: string;
  validitySeconds: number;
  backdateSeconds: number;
  shardCount: number;
  set: RevokedSet;
  /** By scope. */
  previous: ReadonlyMap<string, Predecessor>;
  /** Of the issuer's last CRL. */
  lastNumber: bigint;
}

/** Writes the CRLs of one issuer: gives their numbers, their times and the dates of their entries (I5). */
export class CrlDrafts {
  readonly #parts: Parts;
  /** Dates of entries that no committed CRL has fixed in the store yet: they stay what they were decided to be. */
  readonly #unstoredDates = new Map<Serial, number>();
  #lastNumber: bigint;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#lastNumber = parts.lastNumber;
  }

  /** Where a scope's CRL is served; for a shard also what its IDP says. */
  url(scope: string): string {
    const { publicationUrl, issuer } = this.#parts;
    return scope === fullScope
      ? fullCrlUrl(publicationUrl, issuer.keyId)
      : crlShardUrl(publicationUrl, issuer.keyId, Number(scope));
  }

  /** At least a second after the previous one of its scope, and as far in the past as bursts may draw on. */
  thisUpdateSeconds(scope: string, nowMs: number): number {
    const earliest = Math.floor(nowMs / 1000) - this.#parts.backdateSeconds;
    const previous = this.#parts.previous.get(scope);
    return previous ? Math.max(previous.crl.thisUpdateSeconds + 1, earliest) : earliest;
  }

  /** One for each scope, with what is revoked at this moment. */
  make(scopes: readonly string[], scheduled: boolean, nowMs: number): CrlDraft[] {
    const thisUpdates = new Map(scopes.map((scope) => [scope, this.thisUpdateSeconds(scope, nowMs)]));
    for (const { serial, crlDateSeconds } of this.#parts.set.fixDates(thisUpdates))
      this.#unstoredDates.set(serial, crlDateSeconds);
    return [...thisUpdates].map(([scope, thisUpdateSeconds]) =>
      this.#draft(scope, scheduled, thisUpdateSeconds, nowMs),
    );
  }

  /** The draft is committed: the dates that it fixes are in the store. */
  committed({ datesFixed }: CrlDraft): void {
    for (const { serial } of datesFixed) this.#unstoredDates.delete(serial);
  }

  #draft(scope: string, scheduled: boolean, thisUpdateSeconds: number, nowMs: number): CrlDraft {
    const { issuer, set, previous, validitySeconds } = this.#parts;
    this.#lastNumber = maxBigint(this.#lastNumber + 1n, BigInt(nowMs));
    const crlNumber = this.#lastNumber;
    const nextUpdateSeconds = Math.max(
      thisUpdateSeconds + validitySeconds,
      previous.get(scope)?.crl.nextUpdateSeconds ?? 0,
    );
    const url = this.url(scope);
    const tbs = buildCrlTbs({
      algorithm: issuer.algorithm,
      issuerName: issuer.issuerName,
      thisUpdateSeconds,
      nextUpdateSeconds,
      authorityKeyId: issuer.keyId,
      crlNumber,
      ...(scope === fullScope ? {} : { idpUrl: url }),
      revoked: set.encoded(scope),
    });
    return {
      issuerKeyId: issuer.keyId,
      scope,
      url,
      crlNumber,
      thisUpdateSeconds,
      nextUpdateSeconds,
      scheduled,
      coversTreeSize: set.coversTreeSize,
      tbs,
      datesFixed: this.#datesToFix(scope),
    };
  }

  /** Whichever CRL that carries an entry is committed first fixes its date; the store takes the same date twice. */
  #datesToFix(scope: string): CrlDraft['datesFixed'] {
    return [...this.#unstoredDates].flatMap(([serial, crlDateSeconds]) =>
      scopesOf(serial, this.#parts.shardCount).includes(scope) ? [{ serial, crlDateSeconds }] : [],
    );
  }
}

function maxBigint(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}
