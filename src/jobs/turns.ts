import type { Clock } from '../core/clock.ts';
import type { VouchError } from '../core/errors.ts';
import { FairQueue } from './fair-queue.ts';

/** How much at once, how many may wait and how long, and what the others are told. */
export interface TurnsParts {
  atOnce: number;
  waitingMax: number;
  waitMaxMs: number;
  clock: Pick<Clock, 'monotonicMs'>;
  refusal: () => VouchError;
}

interface Waiting {
  /** Monotonic. */
  sinceMs: number;
  begin: () => void;
  refuse: () => void;
}

/** Bounded work, for which owners take turns: who asks for much keeps nobody waiting for all of it. */
export class Turns {
  readonly #parts: TurnsParts;
  readonly #queue: FairQueue<Waiting>;
  #running = 0;

  constructor(parts: TurnsParts) {
    this.#parts = parts;
    this.#queue = new FairQueue(parts.waitingMax);
  }

  /** Runs it when it is its owner's turn. Rejects with the refusal where it cannot wait, or has waited too long by then. */
  async within<T>(owner: string, work: () => Promise<T>): Promise<T> {
    await this.#turn(owner);
    try {
      return await work();
    } finally {
      this.#running -= 1;
      this.#next();
    }
  }

  #turn(owner: string): Promise<void> {
    const { clock, refusal } = this.#parts;
    return new Promise((begin, reject) => {
      const refuse = (): void => reject(refusal());
      this.#queue.add(owner, { sinceMs: clock.monotonicMs(), begin, refuse })?.refuse();
      this.#next();
    });
  }

  #next(): void {
    const { atOnce, waitMaxMs, clock } = this.#parts;
    const oldestMs = clock.monotonicMs() - waitMaxMs;
    while (this.#running < atOnce && this.#queue.size > 0)
      for (const { sinceMs, begin, refuse } of this.#queue.take(1)) {
        if (sinceMs < oldestMs) refuse();
        else {
          this.#running += 1;
          begin();
        }
      }
  }
}
