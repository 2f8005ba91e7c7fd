import { type Clock, rfc3339 } from '../../core/clock.ts';
import { type Backoff, pauseMs } from '../retry.ts';
import { type Sleep, systemSleep } from '../sleep.ts';

/** What became of a task's runs; times in RFC 3339. */
export interface Outcome {
  lastSuccess?: string;
  lastFailure?: { at: string; problem: string };
  /** Failures since the last success. */
  failures?: number;
  /** Since when there is something to do that is not done. */
  waitingSince?: string;
}

/** How a task is run. */
export interface Pace {
  /** What it is called where its failures are told. */
  name: string;
  /** Attempts at one change before it waits for the next; undefined: no end, and failures of one kind are told once. */
  maxAttempts?: number;
  backoff: Backoff;
  /** Shortest time from the end of a run that took this long to the next. */
  restMs: (tookMs: number) => number;
  clock: Clock;
  signal: AbortSignal;
  notice: (line: string) => void;
  sleep?: Sleep | undefined;
  /** Is called when the outcome is another. */
  outcomeChanged?: (() => void) | undefined;
}

/** So many kinds of failures are told before the next success. */
const kindsMax = 8;

/** Runs a task after changes, one at a time, again where it fails; what changes meanwhile is one more run. */
export class PacedTask<Change extends string> {
  readonly #run: (changes: ReadonlySet<Change>) => Promise<string | undefined>;
  readonly #pace: Pace;
  readonly #pending = new Set<Change>();
  #running: Promise<void> | undefined;
  /** Kinds of failures that were told since the last success. */
  readonly #told = new Set<string>();
  #outcome: Outcome = {};

  /** `run` resolves to why it failed, or to undefined. */
  constructor(run: (changes: ReadonlySet<Change>) => Promise<string | undefined>, pace: Pace) {
    this.#run = run;
    this.#pace = pace;
  }

  get outcome(): Outcome {
    return this.#outcome;
  }

  /** Takes note of a change; returns at once. */
  changed(change: Change): void {
    this.#pending.add(change);
    this.#is({ waitingSince: this.#now(), ...this.#outcome });
    this.#running ??= this.#drain();
  }

  /** Resolves when nothing runs, once the signal has aborted. */
  async ended(): Promise<void> {
    await this.#running;
  }

  async #drain(): Promise<void> {
    const { clock, signal, notice, restMs, sleep = systemSleep } = this.#pace;
    try {
      let failures = 0;
      while (this.#pending.size > 0 && !signal.aborted) {
        const changes = new Set(this.#pending);
        this.#pending.clear();
        const startedMs = clock.monotonicMs();
        const problem = await this.#run(changes);
        if (signal.aborted) return;
        failures = problem === undefined ? this.#succeeded() : this.#failed(problem, failures + 1);
        if (failures > 0) for (const change of changes) this.#pending.add(change);
        const pause = failures > 0 ? pauseMs(failures, this.#pace.backoff) : 0;
        await sleep(Math.max(pause, restMs(clock.monotonicMs() - startedMs)), signal);
      }
    } catch (error) {
      if (!signal.aborted) notice(`${this.#pace.name} stopped: ${String(error)}`);
    } finally {
      this.#running = undefined;
    }
  }

  #succeeded(): 0 {
    const { lastFailure, failures } = this.#outcome;
    if (this.#told.size > 0)
      this.#pace.notice(
        `${this.#pace.name} succeeded again; it had failed ${failures === 1 ? 'once' : `${failures} times`}`,
      );
    this.#told.clear();
    this.#is({
      lastSuccess: this.#now(),
      ...(lastFailure && { lastFailure }),
      ...(this.#pending.size > 0 && { waitingSince: this.#now() }),
    });
    return 0;
  }

  /** Failures so far, 0 where it is given up. */
  #failed(problem: string, attempts: number): number {
    const { name, maxAttempts, notice } = this.#pace;
    const isLast = attempts === maxAttempts;
    const { failures = 0 } = this.#outcome;
    this.#is({ ...this.#outcome, lastFailure: { at: this.#now(), problem }, failures: failures + 1 });
    if (maxAttempts !== undefined || this.#isNews(problem))
      notice(`${name} failed: ${problem}; ${isLast ? 'given up until the next change' : 'trying again'}`);
    return isLast ? 0 : attempts;
  }

  #isNews(problem: string): boolean {
    const kind = kindOf(problem);
    if (this.#told.has(kind) || this.#told.size === kindsMax) return false;
    this.#told.add(kind);
    return true;
  }

  #now(): string {
    return rfc3339(this.#pace.clock.now());
  }

  #is(outcome: Outcome): void {
    this.#outcome = outcome;
    this.#pace.outcomeChanged?.();
  }
}

/** A problem without what is another each time: words with digits, as times and process numbers, but no exit code. */
function kindOf(problem: string): string {
  return problem.replace(/\S*\d\S*/g, (word) => (/^\d{1,3}:?$/.test(word) ? word : '#'));
}
