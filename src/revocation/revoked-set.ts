import { shardOf } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import type { RevocationRecord } from '../store/port.ts';
import { encodeRevoked } from '../x509/crl-tbs.ts';

/** Scope of the full CRL; a shard's scope is its number as text. */
export const fullScope = 'full';

/** The two CRLs that a revoked serial stands on. */
export function scopesOf(serial: Serial, shardCount: number): [shard: string, full: string] {
  return [String(shardOf(serial, shardCount)), fullScope];
}

/** Of each scope the newest revocation, by its leaf's index. */
export type Coverage = ReadonlyMap<string, number>;

/** What has to be covered so that these stand where they must: each on its shard's CRL, all on the full one. */
export function coverageOf(
  records: readonly Pick<RevocationRecord, 'serial' | 'leafIndex'>[],
  shardCount: number,
): Coverage {
  const newest = new Map<string, number>();
  for (const { serial, leafIndex } of records)
    for (const scope of scopesOf(serial, shardCount))
      newest.set(scope, Math.max(newest.get(scope) ?? -1, leafIndex));
  return newest;
}

interface Entry {
  record: RevocationRecord;
  /** DER, made once the date is fixed. */
  der: Buffer | undefined;
}

/**
 * Everything revoked by one issuer that still has to stand on its CRLs, in serial order, each entry encoded once. Kept
 * in step with the store: a record enters after its transaction.
 */
export class RevokedSet {
  readonly #shardCount: number;
  readonly #entries = new Map<Serial, Entry>();
  /** Of each scope, serials ascending. */
  readonly #order = new Map<string, Entry[]>();
  readonly #newest: Map<string, number>;
  /** Those whose date no CRL has decided yet. */
  readonly #undated = new Set<Entry>();

  constructor(records: readonly RevocationRecord[], shardCount: number) {
    this.#shardCount = shardCount;
    this.#newest = new Map(coverageOf(records, shardCount));
    for (const record of records) this.#insert(record);
  }

  /** Log size that a CRL built now covers. */
  get coversTreeSize(): number {
    return (this.#newest.get(fullScope) ?? -1) + 1;
  }

  get newest(): Coverage {
    return this.#newest;
  }

  /** Takes a revocation in; returns the scopes that have to be published for it. */
  add(record: RevocationRecord): string[] {
    const coverage = coverageOf([record], this.#shardCount);
    for (const [scope, leafIndex] of coverage)
      this.#newest.set(scope, Math.max(this.#newest.get(scope) ?? -1, leafIndex));
    this.#insert(record);
    return [...coverage.keys()];
  }

  /** Takes out what stood on a scheduled CRL past its expiry. */
  remove(serials: readonly Serial[]): void {
    const gone = new Set(serials.flatMap((serial) => this.#entries.get(serial) ?? []));
    for (const serial of serials) this.#entries.delete(serial);
    for (const [scope, order] of this.#order)
      this.#order.set(
        scope,
        order.filter((entry) => !gone.has(entry)),
      );
  }

  records(): RevocationRecord[] {
    return Array.from(this.#entries.values(), ({ record }) => record);
  }

  /**
   * Fixes the date of entries that no CRL carried yet: min(time revoked, thisUpdate of the first that does), by the
   * thisUpdate of each scope's next CRL (I5). An entry without its scopes among them is left for later.
   */
  fixDates(thisUpdates: ReadonlyMap<string, number>): { serial: Serial; crlDateSeconds: number }[] {
    return [...this.#undated].flatMap((entry) => {
      const { serial, revokedAtMs } = entry.record;
      const carriers = scopesOf(serial, this.#shardCount).flatMap((scope) => thisUpdates.get(scope) ?? []);
      if (carriers.length === 0) return [];
      const crlDateSeconds = Math.min(Math.floor(revokedAtMs / 1000), ...carriers);
      entry.record = { ...entry.record, crlDateSeconds };
      this.#undated.delete(entry);
      return [{ serial, crlDateSeconds }];
    });
  }

  /** The scope's entries as DER, in serial order. Their dates must be fixed. */
  encoded(scope: string): Buffer[] {
    return (this.#order.get(scope) ?? []).map((entry) => {
      const { serial, crlDateSeconds, reason } = entry.record;
      if (crlDateSeconds === undefined) throw new Error(`the date of ${serial} is not fixed`);
      return (entry.der ??= encodeRevoked({ serial, dateSeconds: crlDateSeconds, reason }));
    });
  }

  /** Whether a CRL with these entries says what a new one of this scope would. */
  isAsOn(scope: string, entries: Buffer): boolean {
    const order = this.#order.get(scope) ?? [];
    return (
      order.every(({ record }) => record.crlDateSeconds !== undefined) &&
      isConcatenated(this.encoded(scope), entries)
    );
  }

  #insert(record: RevocationRecord): void {
    if (this.#entries.has(record.serial)) return;
    const entry = { record, der: undefined };
    this.#entries.set(record.serial, entry);
    if (record.crlDateSeconds === undefined) this.#undated.add(entry);
    for (const scope of scopesOf(record.serial, this.#shardCount)) {
      const order = this.#order.get(scope) ?? [];
      this.#order.set(scope, order);
      insertSorted(order, entry);
    }
  }
}

/** Serials of one issuer have one length, so text order is numeric order. */
function insertSorted(order: Entry[], entry: Entry): void {
  let low = 0;
  let high = order.length;
  // What comes in order, as from the store at start, is put at the end without a search.
  if ((order.at(-1)?.record.serial ?? '') < entry.record.serial) low = high;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((order[middle]?.record.serial ?? '') < entry.record.serial) low = middle + 1;
    else high = middle;
  }
  order.splice(low, 0, entry);
}

/** Whether the parts, one behind the other, are the whole. */
function isConcatenated(parts: readonly Buffer[], whole: Buffer): boolean {
  let at = 0;
  for (const part of parts) {
    if (whole.compare(part, 0, part.length, at, Math.min(whole.length, at + part.length)) !== 0) return false;
    at += part.length;
  }
  return at === whole.length;
}
