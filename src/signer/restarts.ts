/** Longest wait after a start that failed. */
const failureMaxMs = 400;

/** Decides how long to wait before the signer is started again: at once, but not over and over. */
export class Restarts {
  readonly #perMinute: number;
  /** Monotonic times of the starts of the last minute. */
  #startsMs: number[] = [];
  #failuresInARow = 0;

  constructor(perMinute: number) {
    this.#perMinute = perMinute;
  }

  /** It came up: the next start is not one of a row of failures. */
  cameUp(): void {
    this.#failuresInARow = 0;
  }

  /** It did not come up. */
  failed(): void {
    this.#failuresInARow += 1;
  }

  /**
   * Milliseconds to wait before the next start, which this counts. A token that is back after two seconds is to be noticed,
   * and taken up, within the three that a call waits; past the limit of a minute within one.
   */
  delayMs(monotonicMs: number): number {
    this.#startsMs = this.#startsMs.filter((startMs) => monotonicMs - startMs < 60_000);
    const tooMany = this.#startsMs.length >= this.#perMinute;
    this.#startsMs.push(monotonicMs);
    if (tooMany) return 1000;
    return this.#failuresInARow === 0 ? 0 : Math.min(failureMaxMs, 50 * 2 ** this.#failuresInARow);
  }
}
