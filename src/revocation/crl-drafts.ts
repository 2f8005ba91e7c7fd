import { crlUrl } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import type { Issuer } from '../issuance/issuer.ts';
import { Slice } from '../jobs/slice.ts';
import type { CrlRecord } from '../store/records.ts';
import { buildCrl } from '../x509/crl-tbs.ts';
import type { Predecessor } from './publish-gate.ts';
import {
  type DeltaBase,
  deltaScope,
  type FixedDate,
  fullScope,
  type RevokedLists,
  scopesOf,
} from './revoked-lists.ts';

/** A CRL before it has a leaf and a signature. */
export interface CrlDraft extends Omit<CrlRecord, 'leafIndex' | 'signature'> {
  url: string;
  /** What a delta goes with. */
  follows: DeltaBase | undefined;
  /** Of its entries, those whose date is in no committed CRL yet. */
  datesFixed: readonly FixedDate[];
}

interface Parts {
  issuer: Issuer;
  publicationUrl: string;
  validitySeconds: number;
  backdateSeconds: number;
  shardCount: number;
  lists: RevokedLists;
  /** By scope. */
  previous: ReadonlyMap<string, Predecessor>;
  /** Of the issuer's last CRL. */
  lastNumber: bigint;
}

/** Events that are brought into the lists at once: some milliseconds, at a million entries that they lie among. */
const takenAtOnce = 100;
/** Dates that one commit may fix: a few milliseconds. */
const datesAtOnce = 500;

/** Why a round of drafts is made: scheduled ones let entries leave after them; a new base is what deltas follow. */
export interface Occasion {
  scheduled: boolean;
  newBase: boolean;
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
    return crlUrl(this.#parts.publicationUrl, this.#parts.issuer.keyId, scope);
  }

  /** At least a second after the previous one of its scope, and as far in the past as bursts may draw on. */
  thisUpdateSeconds(scope: string, nowMs: number): number {
    const earliest = Math.floor(nowMs / 1000) - this.#parts.backdateSeconds;
    const previous = this.#parts.previous.get(scope);
    return previous ? Math.max(previous.thisUpdateSeconds + 1, earliest) : earliest;
  }

  /** Brings most of what waits into the lists; what is left and what comes meanwhile `make` does. Yields between slices. */
  async takeIn(nowMs: () => number): Promise<void> {
    const slice = new Slice();
    while (this.#parts.lists.waiting > takenAtOnce) {
      this.#takeIn(nowMs(), takenAtOnce);
      if (slice.isOver) await slice.turn();
    }
  }

  /**
   * One for each scope, with what is revoked at this moment. A full CRL and the delta that is made with it say the same
   * and share a number (RFC 5280 §5.2.4). There is no delta without a base.
   */
  make(scopes: readonly string[], occasion: Occasion, nowMs: number): CrlDraft[] {
    const { lists } = this.#parts;
    this.#takeIn(nowMs);
    const dates = this.#datesToFix();
    let shared: bigint | undefined;
    return scopes
      .filter((scope) => scope !== deltaScope || lists.base !== undefined)
      .map((scope) => {
        const isWhole = scope === fullScope || scope === deltaScope;
        const crlNumber = (isWhole && shared) || this.#nextNumber(nowMs);
        if (isWhole) shared = crlNumber;
        return { ...this.#draft(scope, crlNumber, occasion, nowMs), datesFixed: dates.get(scope) ?? [] };
      });
  }

  /**
   * In the order in which they are to be committed: together, as long as there are few dates to fix. Many are fixed by the
   * shards, each of its own and some at a time, before the CRLs that carry all of them.
   */
  inGroups(drafts: readonly CrlDraft[]): CrlDraft[][] {
    if (this.#unstoredDates.size <= datesAtOnce) return [[...drafts]];
    const isWhole = ({ scope }: CrlDraft): boolean => scope === fullScope || scope === deltaScope;
    const groups: CrlDraft[][] = [];
    let room = 0;
    for (const draft of drafts.filter((one) => !isWhole(one))) {
      room -= draft.datesFixed.length;
      if (groups.length > 0 && room >= 0) groups.at(-1)?.push(draft);
      else {
        groups.push([draft]);
        room = datesAtOnce - draft.datesFixed.length;
      }
    }
    return [...groups, drafts.filter(isWhole)];
  }

  /** Of the dates that a draft fixes, those that are not in the store by now. */
  unstored({ datesFixed }: CrlDraft): FixedDate[] {
    return datesFixed.filter(({ serial }) => this.#unstoredDates.has(serial));
  }

  /** They are in the store. */
  datesStored(dates: readonly FixedDate[]): void {
    for (const { serial, crlDateSeconds } of dates)
      if (this.#unstoredDates.get(serial) === crlDateSeconds) this.#unstoredDates.delete(serial);
  }

  /** By scope. Whichever CRL that carries an entry is committed first fixes its date; the store takes the same date twice. */
  #datesToFix(): ReadonlyMap<string, readonly FixedDate[]> {
    const all = [...this.#unstoredDates].map(([serial, crlDateSeconds]) => ({ serial, crlDateSeconds }));
    const byShard = Map.groupBy(all, ({ serial }) => scopesOf(serial, this.#parts.shardCount)[0]);
    return byShard.set(fullScope, all).set(deltaScope, all);
  }

  #takeIn(nowMs: number, most?: number): void {
    const dates = this.#parts.lists.update((scope) => this.thisUpdateSeconds(scope, nowMs), most);
    for (const { serial, crlDateSeconds } of dates) this.#unstoredDates.set(serial, crlDateSeconds);
  }

  #nextNumber(nowMs: number): bigint {
    const byTime = BigInt(nowMs);
    this.#lastNumber = this.#lastNumber + 1n > byTime ? this.#lastNumber + 1n : byTime;
    return this.#lastNumber;
  }

  #draft(
    scope: string,
    crlNumber: bigint,
    { scheduled, newBase }: Occasion,
    nowMs: number,
  ): Omit<CrlDraft, 'datesFixed'> {
    const { issuer, lists, previous, validitySeconds } = this.#parts;
    const thisUpdateSeconds = this.thisUpdateSeconds(scope, nowMs);
    const nextUpdateSeconds = Math.max(
      thisUpdateSeconds + validitySeconds,
      previous.get(scope)?.nextUpdateSeconds ?? 0,
    );
    const url = this.url(scope);
    const follows = scope === deltaScope ? lists.base : undefined;
    const tbs = buildCrl({
      algorithm: issuer.algorithm,
      issuerName: issuer.issuerName,
      thisUpdateSeconds,
      nextUpdateSeconds,
      authorityKeyId: issuer.keyId,
      crlNumber,
      ...(scope === fullScope
        ? { freshestUrl: this.url(deltaScope) }
        : follows
          ? { deltaBase: follows.crlNumber }
          : { idpUrl: url }),
      revoked: lists.of(scope),
    });
    return {
      issuerKeyId: issuer.keyId,
      scope,
      url,
      crlNumber,
      thisUpdateSeconds,
      nextUpdateSeconds,
      scheduled,
      base: newBase && scope === fullScope,
      coversTreeSize: lists.coversTreeSize,
      tbs,
      follows,
    };
  }
}
