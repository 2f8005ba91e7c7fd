import { shardOf } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import { Slice } from '../jobs/slice.ts';
import type { RevocationRecord } from '../store/records.ts';
import { CrlList } from '../x509/crl-list.ts';
import { encodeRevoked } from '../x509/crl-tbs.ts';

/** Scope of the full CRL; a shard's scope is its number as text. */
export const fullScope = 'full';
/** Scope of the delta CRL: what differs from its base, an earlier full CRL (RFC 5280 §5.2.4). */
export const deltaScope = 'delta';

/** What the base of the delta is served under; no CRL of its own. */
export const baseScope = 'base';

/** The two CRLs that a revoked serial stands on. */
export function scopesOf(serial: Serial, shardCount: number): [shard: string, full: string] {
  return [String(shardOf(serial, shardCount)), fullScope];
}

/** Of each scope the newest event, by its leaf's index. */
export type Coverage = ReadonlyMap<string, number>;

/** What has to be covered so that these stand where they must: each on its shard's CRL, all on the full one. */
export function coverageOf(
  records: readonly Pick<RevocationRecord, 'serial' | 'leafIndex'>[],
  shardCount: number,
): Coverage {
  const newest = new Map<string, number>();
  for (const { serial, leafIndex } of records)
    for (const scope of scopesOf(serial, shardCount)) raise(newest, scope, leafIndex);
  return newest;
}

/** True where the event leaves its serial revoked: it is no release from certificateHold. */
export function isStanding({ reason }: Pick<RevocationRecord, 'reason'>): boolean {
  return reason !== 'removeFromCRL';
}

/** The entry of a standing event whose date is fixed, as CRLs have it. */
export function entryOf({ serial, crlDateSeconds, reason, invalidityDateSeconds }: RevocationRecord): Buffer {
  if (crlDateSeconds === undefined) throw new Error(`the date of ${serial} is not fixed`);
  return encodeRevoked({
    serial,
    dateSeconds: crlDateSeconds,
    reason,
    ...(invalidityDateSeconds !== undefined && { invalidityDateSeconds }),
  });
}

/** The full CRL that the delta goes with. */
export interface DeltaBase {
  crlNumber: bigint;
  coversTreeSize: number;
  list: CrlList;
}

/** When an entry counts as revoked on its CRLs. */
export interface FixedDate {
  serial: Serial;
  crlDateSeconds: number;
}

/**
 * What the CRLs of one issuer have to say, list by list: every shard's, the full one's, the delta's. Events are taken in
 * as they become durable, and brought into the lists together when CRLs are drafted.
 */
export class RevokedLists {
  readonly #shardCount: number;
  readonly #lists = new Map<string, CrlList>();
  readonly #newest = new Map<string, number>();
  /** Of each serial the last event that is not in the lists yet, and whether it came behind a release that is not either. */
  readonly #pending = new Map<Serial, { record: RevocationRecord; isAnew: boolean }>();
  #base: DeltaBase | undefined;

  constructor(shardCount: number) {
    this.#shardCount = shardCount;
  }

  /** Log size that CRLs drafted after `update` cover. */
  get coversTreeSize(): number {
    return (this.#newest.get(fullScope) ?? -1) + 1;
  }

  /** Log size that a scope's list covers. */
  coveredBy(scope: string): number {
    return (this.#newest.get(scope) ?? -1) + 1;
  }

  /** The two lists that a revoked serial stands on. */
  scopesOf(serial: Serial): [shard: string, full: string] {
    return scopesOf(serial, this.#shardCount);
  }

  get newest(): Coverage {
    return this.#newest;
  }

  get base(): DeltaBase | undefined {
    return this.#base;
  }

  of(scope: string): CrlList {
    return this.#lists.get(scope) ?? CrlList.empty;
  }

  /** Begins with the list of a CRL that is out. */
  adopt(scope: string, list: CrlList, coversTreeSize: number): void {
    this.#lists.set(scope, list);
    raise(this.#newest, scope, coversTreeSize - 1);
  }

  /** Takes note of an event that the lists have, or will have been corrected for. */
  cover({ serial, leafIndex }: RevocationRecord): void {
    for (const scope of scopesOf(serial, this.#shardCount)) raise(this.#newest, scope, leafIndex);
  }

  /** How many events are still to be brought into the lists. */
  get waiting(): number {
    return this.#pending.size;
  }

  /** From now on the delta says what differs from this full CRL. Yields between slices; until it is done, the last base's goes on. */
  async setBase(base: DeltaBase): Promise<void> {
    const slice = new Slice();
    let [compared, delta] = [base.list, CrlList.empty];
    for (let full = this.of(fullScope); compared !== full; full = this.of(fullScope)) {
      for (const { serial, before, after } of full.changesSince(compared)) {
        const entry = after ?? (before && { ...before, reason: 'removeFromCRL' as const });
        delta = delta.with(new Map([[serial, entry && encodeRevoked(entry)]]));
        if (slice.isOver) await slice.turn();
      }
      compared = full;
    }
    this.#base = base;
    this.#lists.set(deltaScope, delta);
  }

  /** Goes on speaking of what the last delta of this base spoke of, by what is true now. Yields between slices. */
  async keepInDelta(last: CrlList): Promise<void> {
    const slice = new Slice();
    for (const { serial, dateSeconds } of last.all()) {
      if (slice.isOver) await slice.turn();
      const own = this.of(deltaScope);
      if (own.find(serial)) continue;
      const entry = this.of(fullScope).find(serial) ?? { serial, dateSeconds, reason: 'removeFromCRL' };
      this.#lists.set(deltaScope, own.with(new Map([[serial, encodeRevoked(entry)]])));
    }
  }

  /** Takes an event in; returns the scopes that have to be published for it: none where the serial has left its CRLs. */
  add(record: RevocationRecord): string[] {
    if (record.mayLeave) return [];
    this.cover(record);
    const waiting = this.#pending.get(record.serial);
    if (waiting === undefined || waiting.record.leafIndex < record.leafIndex)
      this.#pending.set(record.serial, {
        record,
        isAnew: waiting !== undefined && (waiting.isAnew || !isStanding(waiting.record)),
      });
    return [...scopesOf(record.serial, this.#shardCount), deltaScope];
  }

  /**
   * Brings what was taken in into the lists, and fixes the dates of entries that no CRL carried yet: min(time revoked,
   * thisUpdate that a CRL of each of its scopes would have now), so that none is dated after a CRL that carries it (I5). What
   * follows an entry whose CRL is being committed keeps that entry's date. At most so many events at once.
   */
  update(thisUpdateSeconds: (scope: string) => number, most = Number.POSITIVE_INFINITY): FixedDate[] {
    const fixed: FixedDate[] = [];
    const changes: Change[] = [];
    const full = this.of(fullScope);
    for (const [serial, { record, isAnew }] of this.#pending) {
      if (changes.length >= most) break;
      this.#pending.delete(serial);
      const { crlDateSeconds } = record;
      if (!isStanding(record)) changes.push([serial, undefined]);
      else if (crlDateSeconds !== undefined) changes.push([serial, entryOf(record)]);
      else {
        const carriers = [...scopesOf(serial, this.#shardCount), deltaScope].map(thisUpdateSeconds);
        const given = isAnew ? undefined : full.find(serial)?.dateSeconds;
        const date = given ?? Math.min(Math.floor(record.revokedAtMs / 1000), ...carriers);
        changes.push([serial, entryOf({ ...record, crlDateSeconds: date })]);
        fixed.push({ serial, crlDateSeconds: date });
      }
    }
    this.#change(changes);
    return fixed;
  }

  /** Takes out what may leave, whatever came of it meanwhile. */
  remove(serials: readonly Serial[]): void {
    for (const serial of serials) this.#pending.delete(serial);
    this.#change(serials.map((serial) => [serial, undefined]));
  }

  /** Puts right what the lists that were adopted say otherwise than the store. */
  correct(changes: ReadonlyMap<string, ReadonlyMap<Serial, Buffer | undefined>>): void {
    for (const [scope, some] of changes) {
      this.#lists.set(scope, this.of(scope).with(some));
      if (scope === fullScope) this.#changeDelta([...some]);
    }
  }

  #change(changes: readonly Change[]): void {
    const byScope = new Map<string, Map<Serial, Buffer | undefined>>();
    for (const [serial, entry] of changes)
      for (const scope of scopesOf(serial, this.#shardCount)) {
        const some = byScope.get(scope) ?? new Map<Serial, Buffer | undefined>();
        byScope.set(scope, some.set(serial, entry));
      }
    for (const [scope, some] of byScope) this.#lists.set(scope, this.of(scope).with(some));
    this.#changeDelta(changes);
  }

  /**
   * What is on the base as it is now needs no word. What a delta has spoken of once it speaks of until the next base: a full
   * CRL between base and delta may say otherwise (RFC 5280 §5.2.4). What stands no more leaves by the reason removeFromCRL.
   */
  #changeDelta(changes: readonly Change[]): void {
    const base = this.#base;
    if (!base) return;
    const last = this.of(deltaScope);
    const delta = changes.map(([serial, entry]): Change => {
      const spoken = last.find(serial);
      const before = spoken ?? base.list.find(serial);
      if (entry)
        return !spoken && before && encodeRevoked(before).equals(entry)
          ? [serial, undefined]
          : [serial, entry];
      return [serial, before && encodeRevoked({ ...before, reason: 'removeFromCRL' })];
    });
    this.#lists.set(deltaScope, last.with(new Map(delta)));
  }
}

/** A serial with the entry that it has from now on, DER; undefined: none. */
type Change = readonly [serial: Serial, entry: Buffer | undefined];

function raise(newest: Map<string, number>, scope: string, leafIndex: number): void {
  newest.set(scope, Math.max(newest.get(scope) ?? -1, leafIndex));
}
