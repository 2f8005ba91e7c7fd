import type { Sleep } from '../sleep.ts';

/** Work that is about the newest state: asked for again while it runs, it runs once more; never more often than each `ms`. */
export class Latest {
  readonly #ms: number;
  readonly #work: () => Promise<void>;
  readonly #parts: { signal: AbortSignal; sleep: Sleep };
  #isWanted = false;
  #pause = new AbortController();
  #running: Promise<void> | undefined;

  /** `work` must not reject. */
  constructor(ms: number, work: () => Promise<void>, parts: { signal: AbortSignal; sleep: Sleep }) {
    this.#ms = ms;
    this.#work = work;
    this.#parts = parts;
  }

  /** `atOnce`: without the pause after the last. */
  want({ atOnce = false } = {}): void {
    this.#isWanted = true;
    if (atOnce) this.#pause.abort();
    this.#running ??= this.#run();
  }

  /** What was wanted is done. */
  async done(): Promise<void> {
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal, sleep } = this.#parts;
    while (this.#isWanted) {
      this.#isWanted = false;
      this.#pause = new AbortController();
      await this.#work();
      if (!signal.aborted) await sleep(this.#ms, AbortSignal.any([signal, this.#pause.signal]));
    }
    this.#running = undefined;
  }
}
