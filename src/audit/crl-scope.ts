import type { StoredCrl } from '../store/rows-port.ts';

/** How many CRLs of a scope the store keeps at least. */
const keptCrls = 2;

/** Scope of the delta of the full CRL. */
export const deltaScope = 'delta';

/** A stored CRL without its bytes. */
export type StoredHead = Omit<StoredCrl, 'head' | 'tail' | 'pieces' | 'signature'> & { signed: boolean };

/** A CRL's leaf. */
export interface CrlLeaf {
  index: number;
  timeMs: number;
  crlNumber: bigint;
  stored: boolean;
}

/** All that the log and the store say of one scope's CRLs, in bounded memory. */
export class CrlScopeReading {
  readonly issuerKeyId: string;
  readonly scope: string;
  /** The last leaves: those whose CRLs must be stored. */
  readonly last: CrlLeaf[] = [];
  /** Stored CRLs, oldest first. */
  readonly rows: StoredHead[] = [];
  /** Of the leaves, each that no later one is as late as: where one clock goes on, that is the last. */
  readonly #latest: CrlLeaf[] = [];

  constructor(issuerKeyId: string, scope: string) {
    this.issuerKeyId = issuerKeyId;
    this.scope = scope;
  }

  add(leaf: CrlLeaf): void {
    this.last.push(leaf);
    if (this.last.length > keptCrls) this.last.shift();
    while ((this.#latest.at(-1)?.timeMs ?? Number.POSITIVE_INFINITY) <= leaf.timeMs) this.#latest.pop();
    this.#latest.push(leaf);
  }

  get newest(): CrlLeaf | undefined {
    return this.last.at(-1);
  }

  get latestMs(): number {
    return this.#latest[0]?.timeMs ?? 0;
  }

  /** Whether a CRL was logged after this leaf and later than `ms`. */
  hasLeafAfter(leafIndex: number, ms: number): boolean {
    return this.#latest.some((leaf) => leaf.index > leafIndex && leaf.timeMs > ms);
  }

  /** The newest CRL, which must be whole, and those back to the one that a restart would serve. */
  served(): StoredHead[] {
    const newestSigned = this.rows.findLastIndex((row) => row.signed);
    return this.rows.slice(newestSigned < 0 ? -1 : newestSigned);
  }

  /** The newest scheduled CRL that was signed, as far as the stored ones can say. */
  scheduled(): StoredHead | undefined {
    return this.rows.findLast(
      (row) => row.scheduled === 1 && row.signed && this.last.some(({ index }) => index === row.leafIndex),
    );
  }
}
