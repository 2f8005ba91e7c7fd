import type { Clock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import type { Serial } from '../../core/serial.ts';
import { svidsMax } from '../../wire/agent.ts';
import type { RenewWorkloads } from '../../wire/watch.ts';
import { type Moment, momentOf, msUntil } from '../moment.ts';
import { backgroundBackoff, isTransient, pauseMs } from '../retry.ts';
import type { Sleep } from '../sleep.ts';
import type { Svid, Withheld } from '../workloads.ts';
import type { AgentEntry } from './entry.ts';
import { entryChanges, named } from './entry-changes.ts';
import { type HeldSvid, SvidSlot } from './svid-slot.ts';

/** Longest sleep at once: the wall clock is looked at again. */
const maxSleepMs = 5_000;
/** Renewals that are due within this part of a lifetime, ten seconds at most, go together. */
const togetherShare = 1 / 100;
const togetherMaxMs = 10_000;
/** Who starts with renewals that are overdue asks within this time: a fleet that was away does not come in step. */
const overdueMs = 10_000;
/** A pause takes no more than this part of the shortest lifetime that is held, so that short ones are tried often enough. */
const pauseShare = 1 / 20;
/** Refusals do not pass by themselves: they are asked about again at this pace. */
const refusedPauseMs = 60_000;
/** What the server says where the entry is no longer as we know it. */
const staleEntryCodes = ['denied-no-entry', 'denied-suspended', 'policy-entry-changed'];

/** One certificate to be had. */
export interface SvidAsk {
  entry: AgentEntry;
  predecessor: Serial | undefined;
}

/** What an SVID keeper works with. */
export interface SvidKeeperParts {
  clock: Clock;
  signal: AbortSignal;
  sleep: Sleep;
  notice: (line: string) => void;
  /** Gets and verifies certificates, each with its own outcome in the same order; rejects where the call as a whole failed. */
  ask: (asks: readonly SvidAsk[]) => Promise<(HeldSvid | VouchError)[]>;
  /** Whether the CRLs that are known list a certificate. */
  isRevoked: (issuerKeyId: string, serial: Serial) => boolean;
  /** What can be served may be something else now. Must not throw. */
  changed: () => void;
  /** The server has an entry otherwise than we do. */
  stale: () => void;
  random?: () => number;
}

/** Keeps a certificate for each registration entry of ours. */
export class SvidKeeper {
  readonly #parts: SvidKeeperParts;
  readonly #random: () => number;
  /** Oldest entry first. */
  #slots = new Map<string, SvidSlot>();
  #entries: readonly AgentEntry[] = [];
  #woken = new AbortController();
  /** Calls in a row that failed as a whole. */
  #failures = 0;
  /** No call before. */
  #pausedUntil: Moment;
  #said = '';

  constructor(parts: SvidKeeperParts) {
    this.#parts = parts;
    this.#random = parts.random ?? Math.random;
    this.#pausedUntil = momentOf(0, parts.clock);
  }

  get slots(): readonly SvidSlot[] {
    return [...this.#slots.values()];
  }

  /** As they were taken last. */
  get entries(): readonly AgentEntry[] {
    return this.#entries;
  }

  /** What can be served now, of the oldest entry first. */
  get svids(): readonly Svid[] {
    const nowMs = this.#parts.clock.now();
    return this.slots.flatMap((slot) => slot.svid(nowMs) ?? []);
  }

  /** What cannot, and why. */
  get withheld(): readonly Withheld[] {
    const nowMs = this.#parts.clock.now();
    return this.slots.flatMap((slot) => (slot.svid(nowMs) === undefined ? slot.withheld(nowMs) : []));
  }

  /** For every entry that is not suspended something is held, or the server had its say. */
  get isComplete(): boolean {
    return this.slots.every((slot) => slot.isTried || slot.entry.suspended || slot.held !== undefined);
  }

  /** From here on these are the entries. What one of them is gone or suspended for is no longer served. */
  take(entries: readonly AgentEntry[]): void {
    const { clock, notice } = this.#parts;
    const before = new Map(this.slots.map(({ entry }) => [entry.entryId, entry]));
    entryChanges(before, entries).forEach(notice);
    const slots = new Map<string, SvidSlot>();
    for (const entry of entries) {
      const slot = this.#slots.get(entry.entryId);
      if (slot === undefined) slots.set(entry.entryId, new SvidSlot(entry, clock));
      else slots.set(entry.entryId, this.#updated(slot, entry));
    }
    this.#slots = slots;
    this.#entries = entries;
    // Who told of them is there.
    this.#resume();
    this.#parts.changed();
    this.#wake();
  }

  #resume(): void {
    this.#failures = 0;
    this.#pausedUntil = momentOf(0, this.#parts.clock);
  }

  #updated(slot: SvidSlot, entry: AgentEntry): SvidSlot {
    const { clock } = this.#parts;
    const isOther = entry.version !== slot.entry.version || entry.spiffeId !== slot.entry.spiffeId;
    if (!isOther && entry.suspended === slot.entry.suspended) return slot;
    slot.entry = entry;
    slot.failures = 0;
    if (entry.suspended || slot.held?.spiffeId !== entry.spiffeId) slot.drop(clock);
    else slot.askAt(momentOf(0, clock));
    return slot;
  }

  /**
   * Puts back what was held before a restart, after `take`. Where that is something, what is missing was missing then, too:
   * nobody has to wait for it.
   */
  restore(svids: readonly { entryId: string; held: HeldSvid }[]): void {
    const { isRevoked } = this.#parts;
    const revoked: { slot: SvidSlot; serial: Serial }[] = [];
    for (const { entryId, held } of svids) {
      const slot = this.#slots.get(entryId);
      if (slot === undefined || slot.held !== undefined || slot.entry.suspended) continue;
      if (isRevoked(held.issuerKeyId, held.serial)) revoked.push({ slot, serial: held.serial });
      else this.#putBack(slot, held);
    }
    this.#dropRevoked(revoked, 'not served again');
    if (this.slots.some(({ held }) => held !== undefined)) for (const slot of this.slots) slot.isTried = true;
    this.#parts.changed();
    this.#wake();
  }

  #putBack(slot: SvidSlot, held: HeldSvid): void {
    const { clock } = this.#parts;
    slot.adopt(held, clock, this.#random);
    if (held.entryVersion !== slot.entry.version) slot.askAt(momentOf(0, clock));
    else if (msUntil(slot.due, clock) < 0)
      slot.askAt(momentOf(this.#random() * Math.min(overdueMs, (held.notAfterMs - clock.now()) / 10), clock));
  }

  /** Newer CRLs are known: what is revoked is no longer served, and a fresh one is due. */
  judge(): void {
    const { isRevoked } = this.#parts;
    const revoked = this.slots.flatMap((slot) =>
      slot.held && isRevoked(slot.held.issuerKeyId, slot.held.serial)
        ? [{ slot, serial: slot.held.serial }]
        : [],
    );
    if (revoked.length === 0) return;
    this.#dropRevoked(revoked, 'no longer served');
    this.#parts.changed();
    this.#wake();
  }

  /** One line: an operator can revoke an agent with all that it holds. */
  #dropRevoked(revoked: readonly { slot: SvidSlot; serial: Serial }[], outcome: string): void {
    const { clock, notice } = this.#parts;
    if (revoked.length === 0) return;
    const names = revoked.map(
      ({ slot: { entry }, serial }) => `${entry.spiffeId} (entry ${entry.entryId}, serial ${serial})`,
    );
    notice(`REVOKED: ${named(names)}; ${outcome}`);
    for (const { slot, serial } of revoked) slot.dropRevoked(serial, clock);
  }

  /** Renews what an operator names and what is older than his order, at a random moment of its time. */
  renew(order: RenewWorkloads): void {
    const due = momentOf(this.#random() * order.withinSeconds * 1000, this.#parts.clock);
    for (const slot of this.slots) if (slot.isMeant(order)) slot.askAt(due);
    this.#wake();
  }

  /** Asks for what failed at once: something is different now. */
  retryNow(): void {
    this.#resume();
    for (const slot of this.slots) if (slot.failure !== undefined) slot.askAt(momentOf(0, this.#parts.clock));
    this.#wake();
  }

  /** Until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { signal, sleep } = this.#parts;
    while (!signal.aborted) {
      this.#woken = new AbortController();
      const batch = this.#batch();
      if (batch.length > 0) await this.#attempt(batch);
      else await sleep(this.#waitMs(), AbortSignal.any([signal, this.#woken.signal]));
      // Also what has run out since is no longer served.
      if (!signal.aborted) this.#parts.changed();
    }
  }

  #wake(): void {
    this.#woken.abort();
  }

  /** Everything that is due, and with it the renewals that are due in a moment. */
  #batch(): SvidSlot[] {
    const { clock } = this.#parts;
    const left = (slot: SvidSlot): number => msUntil(slot.due, clock);
    const wanted = this.slots.filter(({ entry }) => !entry.suspended);
    if (msUntil(this.#pausedUntil, clock) > 0 || !wanted.some((slot) => left(slot) <= 0)) return [];
    const soonMs = ({ held, isRenewal }: SvidSlot): number =>
      held && isRenewal ? Math.min(togetherMaxMs, (held.notAfterMs - held.notBeforeMs) * togetherShare) : 0;
    return wanted
      .filter((slot) => left(slot) <= soonMs(slot))
      .sort((one, other) => left(one) - left(other))
      .slice(0, svidsMax);
  }

  /** Until the next one is due, or ends. */
  #waitMs(): number {
    const { clock } = this.#parts;
    const pausedMs = msUntil(this.#pausedUntil, clock);
    const moments = this.slots.flatMap(({ entry, held, due }) => [
      ...(entry.suspended ? [] : [Math.max(pausedMs, msUntil(due, clock))]),
      ...(held ? [held.notAfterMs + 1000 - clock.now()].filter((ms) => ms > 0) : []),
    ]);
    return Math.max(1, Math.min(maxSleepMs, ...moments));
  }

  async #attempt(batch: readonly SvidSlot[]): Promise<void> {
    const { ask, clock, signal } = this.#parts;
    const asked = batch.map(({ entry }) => entry);
    const nowMs = clock.now();
    try {
      const outcomes = await ask(
        batch.map((slot) => ({ entry: slot.entry, predecessor: slot.predecessor(nowMs) })),
      );
      this.#recovered();
      this.#tellRefusals(batch, outcomes);
      batch.forEach((slot, at) => {
        const [entry, outcome] = [asked[at], outcomes[at]];
        if (entry !== undefined && outcome !== undefined) this.#settle(slot, entry, outcome);
      });
    } catch (error) {
      if (!signal.aborted) this.#failed(batch, error);
    }
  }

  #settle(slot: SvidSlot, asked: AgentEntry, outcome: HeldSvid | VouchError): void {
    const { clock, isRevoked } = this.#parts;
    if (!this.#isAwaited(slot)) return;
    slot.isTried = true;
    if (outcome instanceof VouchError) return this.#refused(slot, outcome);
    if (isRevoked(outcome.issuerKeyId, outcome.serial)) return slot.dropRevoked(outcome.serial, clock);
    slot.adopt(outcome, clock, this.#random);
    if (slot.entry.version !== asked.version) slot.askAt(momentOf(0, clock));
  }

  /** A line for each reason that is new. */
  #tellRefusals(batch: readonly SvidSlot[], outcomes: readonly (HeldSvid | VouchError)[]): void {
    const refused = new Map<string, string[]>();
    batch.forEach((slot, at) => {
      const outcome = outcomes[at];
      if (!(outcome instanceof VouchError) || !this.#isAwaited(slot) || !isNews(slot, outcome)) return;
      const { detail } = outcome;
      refused.set(detail, [...(refused.get(detail) ?? []), slot.description]);
    });
    for (const [detail, of] of refused) this.#parts.notice(`no certificate for ${named(of)}: ${detail}`);
  }

  /** The entry may have gone, or been suspended, since it was asked for. */
  #isAwaited(slot: SvidSlot): boolean {
    return this.#slots.get(slot.entry.entryId) === slot && !slot.entry.suspended;
  }

  #refused(slot: SvidSlot, error: VouchError): void {
    const { clock, stale } = this.#parts;
    const isNew = isNews(slot, error);
    const ofPredecessor = slot.held !== undefined && !slot.isWithoutPredecessor;
    const afterMs = this.#pauseMs(slot.failures + 1, error);
    if (error.code === 'denied-revoked' && slot.held !== undefined) {
      slot.failed(error, clock, afterMs);
      slot.drop(clock);
    } else if (error.code === 'denied-certificate' && ofPredecessor) {
      slot.failed(error, clock, 0);
      slot.isWithoutPredecessor = true;
    } else slot.failed(error, clock, afterMs);
    if (isNew && staleEntryCodes.includes(error.code)) stale();
  }

  /** The whole call: nothing is asked for until one pause is over, and then all that is due together. */
  #failed(batch: readonly SvidSlot[], error: unknown): void {
    const { clock, notice } = this.#parts;
    this.#failures += 1;
    const failure =
      error instanceof VouchError ? error : new VouchError('internal', String(error), { cause: error });
    if (failure.detail !== this.#said)
      notice(`cannot get ${batch.length} certificate(s): ${failure.detail}; what is held stays`);
    this.#said = failure.detail;
    this.#pausedUntil = momentOf(this.#pauseMs(this.#failures, failure), clock);
    for (const slot of batch)
      slot.failure = { code: failure.code, detail: failure.detail, atMs: clock.now() };
  }

  #recovered(): void {
    if (this.#failures > 0) this.#parts.notice('certificates can be had again');
    this.#failures = 0;
    this.#said = '';
  }

  #pauseMs(failures: number, error: VouchError): number {
    const lifetimes = this.slots.flatMap(({ held }) => (held ? [held.notAfterMs - held.notBeforeMs] : []));
    const capMs = Math.max(
      1000,
      Math.min(backgroundBackoff.capMs, ...lifetimes.map((ms) => ms * pauseShare)),
    );
    if (isTransient(error))
      return pauseMs(failures, { ...backgroundBackoff, capMs }, error.retryAfterSeconds, this.#random);
    return Math.min(refusedPauseMs, capMs * 4) * (0.5 + this.#random());
  }
}

function isNews({ failure }: SvidSlot, { detail }: VouchError): boolean {
  return failure?.detail !== detail;
}
