import { VouchError } from '../core/errors.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';
import { Allowance, type Terms } from './allowance.ts';

/** How many certificates agents get for their entries. */
export interface SvidLimits {
  /** For one entry at once: a host may be restarted so often before it has to wait. */
  atOnce: number;
  /** For all entries of an agent, on the average of each: what an agent needs that renews at half life is two and a half. */
  perLifetime: number;
}

/** An entry has more than its share of what its agent has, and all of that at once once more. */
const entryShare = 4;
/** A longer lifetime counts as this one, or who was restarted too often would have to wait for hours. */
const longestSeconds = 3600;
/** How long the number of an agent's entries is not counted again, save where it is too small. */
const countedForMs = 10_000;

/**
 * Bounds what becomes of an agent that is restarted over and over, or in the hands of somebody else: each certificate stays in
 * the log for ever. Agents are told apart by the enrollment that they go back to, since many hosts may enroll as one.
 */
export class SvidAllowance {
  readonly #store: Pick<StoreReader, 'entryCountOf'>;
  readonly #limits: SvidLimits;
  readonly #ofEntries = new Allowance();
  readonly #ofAgents = new Allowance();
  #counted = new Map<string, number>();
  #countedAtMs = Number.NEGATIVE_INFINITY;

  constructor(store: Pick<StoreReader, 'entryCountOf'>, limits: SvidLimits) {
    this.#store = store;
    this.#limits = limits;
  }

  /**
   * Takes one certificate's worth and returns what gives it back. Throws `unavailable-rate-limited`. `nowMs`: monotonic.
   * `lifetimeSeconds`: of the certificate.
   */
  take(
    agent: CertificateStanding,
    entry: RegistrationEntry,
    lifetimeSeconds: number,
    nowMs: number,
  ): () => void {
    const { atOnce } = this.#limits;
    const costMs = this.#costMs(lifetimeSeconds);
    const key = `${agent.lineage} ${entry.entryId}`;
    const ofEntry = { costMs, mostMs: atOnce * costMs, rate: entryShare };
    const waitMs = this.#ofEntries.take(key, ofEntry, nowMs);
    if (waitMs > 0) throw tooMany(`for the registration entry ${entry.entryId} (${entry.spiffeId})`, waitMs);
    const taken = (): number =>
      this.#ofAgents.take(agent.lineage, this.#ofAgent(agent, costMs, nowMs), nowMs);
    let agentWaitMs = taken();
    if (agentWaitMs > 0) {
      // There may be more entries by now.
      this.#counted.delete(agent.spiffeId);
      agentWaitMs = taken();
    }
    if (agentWaitMs > 0) {
      this.#ofEntries.giveBack(key, ofEntry);
      const entries = this.#entriesOf(agent, nowMs);
      throw tooMany(`for its ${entries} registration entries together`, agentWaitMs);
    }
    return () => {
      this.#ofEntries.giveBack(key, ofEntry);
      this.#ofAgents.giveBack(agent.lineage, ofEntry);
    };
  }

  /** What is owed for a certificate: the part of its lifetime in which an entry earns one. */
  #costMs(lifetimeSeconds: number): number {
    return (Math.min(lifetimeSeconds, longestSeconds) * 1000) / this.#limits.perLifetime;
  }

  /** Entries of all lifetimes have one allowance: what it holds at once are certificates of the longest. */
  #ofAgent(agent: CertificateStanding, costMs: number, nowMs: number): Terms {
    const entries = this.#entriesOf(agent, nowMs);
    const most = this.#limits.atOnce + entryShare * entries;
    return { costMs, mostMs: most * this.#costMs(longestSeconds), rate: entries };
  }

  /** One at least: the one that is asked for. */
  #entriesOf({ spiffeId }: CertificateStanding, nowMs: number): number {
    if (nowMs - this.#countedAtMs > countedForMs) {
      this.#counted = new Map();
      this.#countedAtMs = nowMs;
    }
    const count = this.#counted.get(spiffeId) ?? Math.max(1, this.#store.entryCountOf(spiffeId));
    this.#counted.set(spiffeId, count);
    return count;
  }
}

function tooMany(what: string, waitMs: number): VouchError {
  return new VouchError(
    'unavailable-rate-limited',
    `this agent got too many certificates ${what} lately: is it restarted over and over, without a folder that stays?`,
    { retryAfterSeconds: waitMs / 1000 },
  );
}
