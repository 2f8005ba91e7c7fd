import type { Clock } from '../../core/clock.ts';
import type { EntriesAnswer } from '../../wire/agent.ts';
import { momentOf, sleepUntil } from '../moment.ts';
import { backgroundBackoff, isTransient, pauseMs } from '../retry.ts';
import type { Sleep } from '../sleep.ts';

/** How often entries are asked for while nobody tells of them. */
const everyMs = 60_000;
/** While the server tells of changes: it is looked after, not waited for. */
const liveEveryMs = 600_000;
/** What all agents hear of at one moment not all ask about then. */
const spreadMs = 30_000;
/** A refusal does not pass by itself. */
const refusedPauseMs = 60_000;

/** What an entries keeper works with. */
export interface EntriesParts {
  clock: Clock;
  signal: AbortSignal;
  sleep: Sleep;
  notice: (line: string) => void;
  /** Asks the server; undefined where the sequence is still `known`. */
  ask: (known: number | undefined) => Promise<EntriesAnswer | undefined>;
  /** They are others. Must not throw. */
  took: (answer: EntriesAnswer) => void;
  /** The server answers whom it had refused. Must not throw. */
  accepted: () => void;
}

/** Keeps the registration entries that name us as parent as the server has them. */
export class EntriesKeeper {
  readonly #parts: EntriesParts;
  #known: number | undefined;
  /** What was told last; another than `#known` is asked for. */
  #told = -1;
  #isLive = false;
  #isAsking = false;
  #due: ReturnType<typeof momentOf>;
  #woken = new AbortController();
  #isRefused = false;
  /** When the server last answered, by the wall clock. */
  askedAtMs: number | undefined;
  /** Why it did not, since. */
  failure: string | undefined;

  constructor(parts: EntriesParts) {
    this.#parts = parts;
    this.#due = momentOf(0, parts.clock);
  }

  /** The server tells that the entries have this sequence. */
  told(sequence: number): void {
    this.#told = sequence;
    if (sequence !== this.#known && !this.#isAsking) this.askNow();
  }

  /** Whether the server tells of changes. What it tells first is the present state; where it ends, it is asked. */
  live(isLive: boolean): void {
    if (this.#isLive === isLive) return;
    this.#isLive = isLive;
    if (!isLive || this.failure !== undefined) this.askNow();
  }

  /** What is known from before a restart has this sequence. */
  restored(sequence: number): void {
    this.#known = sequence;
  }

  /** What is known says nothing of what is now: it is asked for soon, and at once when the server tells of any. */
  forget(): void {
    const { clock } = this.#parts;
    this.#known = undefined;
    const due = momentOf(Math.random() * spreadMs, clock);
    if (due.wallMs < this.#due.wallMs) this.#due = due;
  }

  askNow(): void {
    this.#due = momentOf(0, this.#parts.clock);
    this.#woken.abort();
  }

  /** Until the signal aborts. Never rejects. */
  async run(): Promise<void> {
    const { clock, signal, sleep } = this.#parts;
    let failures = 0;
    while (!signal.aborted) {
      this.#woken = new AbortController();
      // Woken while it is asked means once more; told, where the answer is another.
      this.#due = momentOf(Number.MAX_SAFE_INTEGER, clock);
      const toldBefore = this.#told;
      this.#isAsking = true;
      const error = await this.#askOnce();
      this.#isAsking = false;
      if (error === undefined && this.#told !== toldBefore && this.#told !== this.#known) this.askNow();
      failures = error === undefined ? 0 : failures + 1;
      const next = momentOf(this.#pauseMs(failures, error), clock);
      if (next.wallMs < this.#due.wallMs) this.#due = next;
      const woken = AbortSignal.any([signal, this.#woken.signal]);
      await sleepUntil(() => this.#due, { clock, signal: woken, sleep });
    }
  }

  async #askOnce(): Promise<unknown> {
    const { ask, took, accepted, notice, clock, signal } = this.#parts;
    try {
      const answer = await ask(this.#known);
      this.askedAtMs = clock.now();
      if (this.failure !== undefined) notice('the registration entries can be had again');
      this.failure = undefined;
      if (this.#isRefused) accepted();
      this.#isRefused = false;
      if (answer === undefined) return undefined;
      this.#known = answer.sequence;
      took(answer);
      return undefined;
    } catch (error) {
      if (signal.aborted) return error;
      const detail = error instanceof Error ? error.message : String(error);
      if (detail !== this.failure) notice(`the registration entries cannot be had: ${detail}`);
      this.failure = detail;
      this.#isRefused = !isTransient(error);
      return error;
    }
  }

  #pauseMs(failures: number, error: unknown): number {
    if (failures === 0 && this.#told > (this.#known ?? 0)) return pauseMs(1, backgroundBackoff);
    if (failures === 0) return (this.#isLive ? liveEveryMs : everyMs) * (0.9 + 0.2 * Math.random());
    if (isTransient(error)) return pauseMs(failures, backgroundBackoff, error.retryAfterSeconds);
    return refusedPauseMs * (0.5 + Math.random());
  }
}
