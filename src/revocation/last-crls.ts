import { crlUrl } from '../core/publication.ts';
import type { Issuer } from '../issuance/issuer.ts';
import type { Issuers } from '../issuance/issuers.ts';
import type { StoreReader } from '../store/port.ts';
import { wholeCrl } from '../x509/crl-tbs.ts';
import { issuedBy } from './issued-by.ts';
import type { PublishedCrl } from './published-crls.ts';
import { crlSha256 } from './read-tbs.ts';
import { baseScope, deltaScope, fullScope } from './revoked-lists.ts';

interface Parts {
  store: Pick<StoreReader, 'baseCrl' | 'issuedBy' | 'lastCrls' | 'treeSize'>;
  shardCount: number;
  issuers: Pick<Issuers, 'mayIssue'>;
}

/**
 * Of an issuer that issues no more CRLs go on until each was made after its last certificate had expired: those are its
 * last ones, whose entries and nextUpdate outlive all that they could speak of, and they stay served.
 */
export class LastCrls {
  readonly #parts: Parts;
  /** When the last certificate of each ends, Unix milliseconds; fixed, since it issues no more. */
  readonly #endMs = new Map<string, number>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Reads what those of them that issue no more have issued; once for each. */
  async look(issuerKeyIds: readonly string[]): Promise<void> {
    for (const issuerKeyId of issuerKeyIds) {
      if (this.#parts.issuers.mayIssue(issuerKeyId) || this.#endMs.has(issuerKeyId)) continue;
      const { lastNotAfterMs } = await issuedBy(this.#parts.store, issuerKeyId, 0);
      this.#endMs.set(issuerKeyId, lastNotAfterMs);
    }
  }

  /** Whether these, of every scope, are the last CRLs of this issuer. */
  areLast(issuerKeyId: string, crls: readonly Pick<PublishedCrl, 'thisUpdateSeconds'>[]): boolean {
    const endMs = this.#endMs.get(issuerKeyId);
    return (
      endMs !== undefined &&
      crls.length > this.#parts.shardCount &&
      crls.every(({ thisUpdateSeconds }) => thisUpdateSeconds * 1000 > endMs)
    );
  }

  /** The last CRLs of those issuers of which no more are to come, as they are stored. */
  async stored(issuers: readonly Issuer[], publicationUrl: string): Promise<PublishedCrl[]> {
    await this.look(issuers.map(({ keyId }) => keyId));
    const stored = [];
    for (const issuer of issuers) stored.push(...(await this.#storedOf(issuer, publicationUrl)));
    return stored;
  }

  async #storedOf({ keyId, algorithm }: Issuer, publicationUrl: string): Promise<PublishedCrl[]> {
    if (!this.#endMs.has(keyId)) return [];
    const { store } = this.#parts;
    const rows = store.lastCrls(keyId).filter(({ signature }) => signature !== undefined);
    if (!this.areLast(keyId, rows)) return [];
    const base = store.baseCrl(keyId);
    const served = [...rows, ...(base ? [{ ...base, scope: baseScope }] : [])];
    const crls = served.map(async ({ tbs, signature = Buffer.alloc(0), ...head }): Promise<PublishedCrl> => {
      const url = crlUrl(publicationUrl, keyId, head.scope);
      return { ...head, url, der: wholeCrl(tbs, algorithm, signature), tbsSha256: await crlSha256(tbs) };
    });
    return (await Promise.all(crls)).toSorted((a, b) => rank(a) - rank(b));
  }
}

/** The full CRL, then the shards by number, then the delta and its base. */
function rank({ scope }: PublishedCrl): number {
  if (scope === fullScope) return -1;
  return scope === deltaScope || scope === baseScope ? Number.MAX_SAFE_INTEGER : Number(scope);
}
