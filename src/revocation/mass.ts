import { setTimeout as sleep } from 'node:timers/promises';
import { canonicalJson } from '../core/canonical-json.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import type { Reason } from '../core/reasons.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import { recordLeaf } from '../sequencer/record.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { StoreReader } from '../store/port.ts';
import type { MassRevocationRecord } from '../store/records.ts';
import { type Order, unlessDone } from './events.ts';
import type { Revocation } from './revoke.ts';
import { type RevocationResult, Tally } from './tally.ts';
import type { RevocationTarget } from './targets.ts';

/** What came to its end is remembered with its lists for as many. */
const remembered = 100;
/** Longest pause before it is tried again. */
const pauseMaxMs = 10_000;

/** How far one is. */
export interface MassProgress {
  /** By which it is asked for: the index of its leaf. */
  massRevocation: number;
  reason: Reason;
  /** Events so far, also of before a restart. */
  revokedCount: number;
  /** Why it does not get on; it is tried again. */
  problem: string | undefined;
  /** Undefined as long as it is under way. After a restart without its lists. */
  result: RevocationResult | undefined;
}

interface Run {
  record: MassRevocationRecord;
  tally: Tally;
  done: Promise<void>;
  problem: string | undefined;
  result: RevocationResult | undefined;
}

interface Parts {
  revocation: Revocation;
  store: StoreReader;
  sequencer: Sequencer;
  clockGuard: ClockGuard;
  /** Told of what keeps one from getting on. */
  failed: (error: unknown) => void;
}

/**
 * Revocations of many certificates, which no request waits for. Target and operator are durable before the first
 * certificate ends; then it goes on until nothing is left, also after a restart.
 */
export class MassRevocations {
  readonly #parts: Parts;
  readonly #stopping = new AbortController();
  readonly #stopped = Promise.withResolvers<undefined>();
  readonly #runs = new Map<number, Run>();
  /** Those under way, by what they do. */
  readonly #underWay = new Map<string, Promise<Run>>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** Goes on with what was cut short. */
  resume(): void {
    for (const record of this.#parts.store.unfinishedMassRevocations()) {
      const run = this.#run(record);
      void this.#track(nameOf(record), Promise.resolve(run));
    }
  }

  /**
   * Begins, or joins the one under way that does the same. Resolves with its name once it is durable. Throws
   * `request-not-found`.
   */
  async begin(target: RevocationTarget, order: Omit<Order, 'massRevocation'>): Promise<number> {
    const { invalidityDateSeconds, reason, operator } = order;
    const startedAtMs = this.#parts.clockGuard.revocationTimeMs();
    const record = {
      target: canonicalJson({ ...target }),
      reason,
      invalidityDateSeconds,
      operator,
      startedAtMs,
    };
    const name = nameOf(record);
    const run = this.#underWay.get(name) ?? this.#track(name, this.#begun(target, record));
    return (await run).record.leafIndex;
  }

  /** How far it is when it is done, at the latest after `waitMs`. Throws `request-not-found`. */
  async progress(massRevocation: number, waitMs: number): Promise<MassProgress> {
    const run = this.#runs.get(massRevocation);
    if (run) {
      const late = new AbortController();
      const wait = sleep(waitMs, undefined, { signal: late.signal, ref: false }).catch(() => undefined);
      await Promise.race([run.done, wait]);
      late.abort();
    }
    const stored = this.#parts.store.massRevocation(massRevocation);
    if (!stored)
      throw new VouchError('request-not-found', `no mass revocation has the leaf ${massRevocation}`);
    const { eventCount: revokedCount, endedBy, reason } = stored;
    const isKnown = run !== undefined || endedBy === undefined;
    const result = isKnown ? run?.result : await this.#parts.revocation.answer(new Tally());
    return {
      ...{ massRevocation, reason, revokedCount, problem: run?.problem },
      result: result && { ...result, revokedCount },
    };
  }

  /** Stops where it is; the next start goes on. */
  async close(): Promise<void> {
    this.#stopping.abort();
    this.#stopped.resolve(undefined);
    await Promise.allSettled([...this.#runs.values()].map((run) => run.done));
  }

  #track(name: string, begun: Promise<Run>): Promise<Run> {
    this.#underWay.set(name, begun);
    const over = (): void => void this.#underWay.delete(name);
    void begun.then((run) => run.done.then(over), over);
    return begun;
  }

  async #begun(
    target: RevocationTarget,
    record: Omit<MassRevocationRecord, 'leafIndex' | 'eventCount' | 'endedBy'>,
  ): Promise<Run> {
    await this.#parts.revocation.targets.require(target);
    const { startedAtMs, ...said } = record;
    const leaf = recordLeaf('operator', startedAtMs, { verb: 'mass-revocation-begun', ...said });
    const leafIndex = await this.#parts.sequencer.record({
      ...{ kind: 'mass-revocation', leaf, massRevocation: record },
    });
    return this.#run({ ...record, leafIndex, eventCount: 0, endedBy: undefined });
  }

  #run(record: MassRevocationRecord): Run {
    const run: Run = {
      ...{ record, tally: new Tally(), problem: undefined, result: undefined },
      done: Promise.resolve(),
    };
    this.#runs.set(record.leafIndex, run);
    run.done = this.#untilDone(run);
    const [oldest] = this.#runs.keys();
    if (this.#runs.size > remembered && oldest !== undefined && this.#runs.get(oldest)?.result)
      this.#runs.delete(oldest);
    return run;
  }

  /** Never rejects: what fails is tried again until it is done, or the server stops. */
  async #untilDone(run: Run): Promise<void> {
    const { signal } = this.#stopping;
    for (let failures = 0; !signal.aborted; failures += 1) {
      try {
        await this.#carryOut(run, signal);
        return;
      } catch (error) {
        if (signal.aborted) return;
        run.problem = asVouchError(error).detail;
        this.#parts.failed(error);
        const pauseMs = Math.min(100 * 2 ** failures, pauseMaxMs);
        await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
      }
    }
  }

  async #carryOut(run: Run, signal: AbortSignal): Promise<void> {
    const { revocation, sequencer, clockGuard } = this.#parts;
    const { record, tally } = run;
    const { reason, operator, invalidityDateSeconds, leafIndex } = record;
    // Written by this program.
    const target = JSON.parse(record.target) as RevocationTarget;
    const order = { reason, operator, invalidityDateSeconds, massRevocation: record };
    await revocation.carryOut(target, order, tally, signal);
    const body = { verb: 'mass-revocation-ended', begun: leafIndex, operator };
    const leaf = recordLeaf('operator', clockGuard.revocationTimeMs(), body);
    await unlessDone(sequencer.record({ kind: 'mass-revocation-ended', leaf, massRevocation: leafIndex }));
    run.problem = undefined;
    run.result = await Promise.race([revocation.answer(tally), this.#stopped.promise]);
  }
}

/** What makes two the same. */
function nameOf({
  target,
  reason,
  invalidityDateSeconds,
}: Pick<MassRevocationRecord, 'target' | 'reason' | 'invalidityDateSeconds'>): string {
  return canonicalJson([target, reason, invalidityDateSeconds ?? null]);
}
