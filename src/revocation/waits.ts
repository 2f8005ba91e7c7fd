import type { Clock } from '../core/clock.ts';
import type { VouchError } from '../core/errors.ts';

/** What the tasks of one part wait for, all of it cut short at once when it ends. */
export class Waits {
  readonly #clock: Clock;
  #hasEnded = false;
  readonly #wakeUps = new Set<() => void>();

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** From now on nothing is waited for. */
  end(): void {
    this.#hasEnded = true;
    for (const wakeUp of this.#wakeUps) wakeUp();
  }

  /** Ends early with `cut`. */
  async pause(ms: number, cut?: Promise<void>): Promise<void> {
    if (ms <= 0 || this.#hasEnded) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, ms);
    this.#wakeUps.add(resolve);
    await Promise.race(cut ? [promise, cut] : [promise]);
    clearTimeout(timer);
    this.#wakeUps.delete(resolve);
  }

  /** Looks again after as many milliseconds as `waitMs` says, until that is none; past `limitMs` throws `late`. */
  async until(waitMs: () => number, limitMs: number, late: VouchError): Promise<void> {
    const deadlineMs = this.#clock.monotonicMs() + limitMs;
    for (let ms = waitMs(); ms > 0; ms = waitMs()) {
      if (this.#hasEnded || this.#clock.monotonicMs() > deadlineMs) throw late;
      await this.pause(Math.min(ms, limitMs));
    }
  }
}
