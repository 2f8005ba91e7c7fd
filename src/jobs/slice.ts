import { setImmediate as aTurn } from 'node:timers/promises';

/** Longest time without a turn of the event loop. */
const sliceMs = 5;

/** Long work that gives others a turn every few milliseconds: `if (slice.isOver) await slice.turn()` after each step. */
export class Slice {
  #sinceMs = performance.now();

  get isOver(): boolean {
    return performance.now() - this.#sinceMs > sliceMs;
  }

  async turn(): Promise<void> {
    await aTurn();
    this.#sinceMs = performance.now();
  }
}
