import type { Clock } from '../core/clock.ts';

/** Brings a mark to its place, one write at a time, and knows how long its oldest change has waited. */
export class MarkWriter {
  readonly #write: () => Promise<void>;
  readonly #clock: Clock;
  #changes = 0;
  /** Monotonic time of the oldest change that is not written; kept while a write is under way, which may hang. */
  #sinceMs: number | undefined;
  #writes: Promise<void> = Promise.resolve();

  constructor(write: () => Promise<void>, clock: Clock) {
    this.#write = write;
    this.#clock = clock;
  }

  /** Something in the mark changed. */
  changed(): void {
    this.#changes += 1;
    this.#sinceMs ??= this.#clock.monotonicMs();
  }

  /** Milliseconds for which the oldest change has waited; 0 where all is written. */
  get waitingMs(): number {
    return this.#sinceMs === undefined ? 0 : this.#clock.monotonicMs() - this.#sinceMs;
  }

  /** Writes what changed. Rejects with what the write rejects with; the change then waits on. */
  write(): Promise<void> {
    const done = this.#writes.then(() => this.#writeNow());
    this.#writes = done.catch(() => undefined);
    return done;
  }

  async #writeNow(): Promise<void> {
    if (this.#sinceMs === undefined) return;
    const changes = this.#changes;
    const startedMs = this.#clock.monotonicMs();
    await this.#write();
    this.#sinceMs = this.#changes === changes ? undefined : startedMs;
  }
}
