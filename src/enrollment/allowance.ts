/** What somebody may have. */
export interface Terms {
  /** Until one more is earned, in milliseconds. */
  everyMs: number;
  /** That many at once, where nothing was had for long. */
  atOnce: number;
}

/**
 * What each may have by and by: so many at once, and one more after each while (a generic cell rate, as ATM has it). Kept
 * is only who has not earned again what he had. In memory: a restart forgives.
 */
export class Allowance {
  /** When all that he had is earned; who comes after that is not kept. */
  readonly #earnedAtMs = new Map<string, number>();

  get size(): number {
    return this.#earnedAtMs.size;
  }

  /** Takes one; how long to wait, in milliseconds, where it cannot be had yet, 0 where it was taken. */
  take(owner: string, { everyMs, atOnce }: Terms, nowMs: number): number {
    this.#sweep(nowMs);
    const earnedAtMs = Math.max(this.#earnedAtMs.get(owner) ?? nowMs, nowMs) + everyMs;
    const waitMs = earnedAtMs - nowMs - atOnce * everyMs;
    if (waitMs > 0) return waitMs;
    this.#earnedAtMs.set(owner, earnedAtMs);
    return 0;
  }

  /** One that was taken came to nothing. */
  giveBack(owner: string, { everyMs }: Terms): void {
    const earnedAtMs = this.#earnedAtMs.get(owner);
    if (earnedAtMs !== undefined) this.#earnedAtMs.set(owner, earnedAtMs - everyMs);
  }

  /** Two at each call: those who have earned it all go sooner than others come. */
  #sweep(nowMs: number): void {
    for (const [owner, earnedAtMs] of [...this.#earnedAtMs.entries().take(2)]) {
      this.#earnedAtMs.delete(owner);
      if (earnedAtMs > nowMs) this.#earnedAtMs.set(owner, earnedAtMs);
    }
  }
}
