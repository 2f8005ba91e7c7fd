import type { Serial } from '../core/serial.ts';
import type { RevocationRecord } from '../store/port.ts';
import { encodeRevoked } from '../x509/crl-tbs.ts';

/** Scope of the full CRL; a shard's scope is its number as text. */
export const fullScope = 'full';

/** Of each scope the newest revocation, by its leaf's index. */
export type Coverage = ReadonlyMap<string, number>;

/** What has to be covered so that these stand where they must: each on its shard's CRL, all on the full one. */
export function coverageOf(records: readonly RevocationRecord[]): Coverage {
  const newest = new Map<string, number>();
  for (const record of records) include(newest, record);
  return newest;
}

function include(newest: Map<string, number>, { shard, leafIndex }: RevocationRecord): void {
  for (const scope of [fullScope, String(shard)])
    newest.set(scope, Math.max(newest.get(scope) ?? -1, leafIndex));
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
  readonly #entries = new Map<Serial, Entry>();
  /** Serials of each scope in ascending order. */
  readonly #order = new Map<string, Serial[]>();
  readonly #newest = new Map<string, number>();

  constructor(records: readonly RevocationRecord[]) {
    for (const record of records) this.add(record);
  }

  /** Log size that a CRL built now covers. */
  get coversTreeSize(): number {
    return (this.#newest.get(fullScope) ?? -1) + 1;
  }

  get newest(): Coverage {
    return this.#newest;
  }

  get size(): number {
    return this.#entries.size;
  }

  add(record: RevocationRecord): void {
    include(this.#newest, record);
    if (this.#entries.has(record.serial)) return;
    this.#entries.set(record.serial, { record, der: undefined });
    for (const scope of [fullScope, String(record.shard)]) insertSorted(this.#scope(scope), record.serial);
  }

  /** Takes out what stood on a scheduled CRL past its expiry. */
  remove(serials: readonly Serial[]): void {
    const gone = new Set(serials);
    for (const serial of gone) this.#entries.delete(serial);
    for (const [scope, order] of this.#order)
      this.#order.set(
        scope,
        order.filter((serial) => !gone.has(serial)),
      );
  }

  records(scope: string): RevocationRecord[] {
    return this.#scope(scope).flatMap((serial) => this.#entries.get(serial)?.record ?? []);
  }

  /** Fixes the date of entries that no CRL carried yet: min(time revoked, thisUpdate of the first that does) (I5). */
  fixDates(scope: string, thisUpdateSeconds: number): { serial: Serial; crlDateSeconds: number }[] {
    return this.#scope(scope).flatMap((serial) => {
      const entry = this.#entries.get(serial);
      if (!entry || entry.record.crlDateSeconds !== undefined) return [];
      const crlDateSeconds = Math.min(Math.floor(entry.record.revokedAtMs / 1000), thisUpdateSeconds);
      entry.record = { ...entry.record, crlDateSeconds };
      return [{ serial, crlDateSeconds }];
    });
  }

  /** The scope's entries as DER, in serial order. Their dates must be fixed. */
  encoded(scope: string): Buffer[] {
    return this.#scope(scope).flatMap((serial) => {
      const entry = this.#entries.get(serial);
      if (!entry) return [];
      const { crlDateSeconds, reason } = entry.record;
      if (crlDateSeconds === undefined) throw new Error(`the date of ${serial} is not fixed`);
      entry.der ??= encodeRevoked({ serial, dateSeconds: crlDateSeconds, reason });
      return [entry.der];
    });
  }

  #scope(scope: string): Serial[] {
    const order = this.#order.get(scope) ?? [];
    this.#order.set(scope, order);
    return order;
  }
}

/** Serials of one issuer have one length, so text order is numeric order. */
function insertSorted(order: Serial[], serial: Serial): void {
  let low = 0;
  let high = order.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((order[middle] ?? '') < serial) low = middle + 1;
    else high = middle;
  }
  order.splice(low, 0, serial);
}
