import type { Clock } from '../core/clock.ts';
import type { VouchError } from '../core/errors.ts';

/** Waiting of one task, all of it cut short at once when it ends. */
export class Waits {
  readonly #clock: Clock;
  #hasEnded = false;
  #wakeUp: () => void = () => undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  get hasEnded(): boolean {
    return this.#hasEnded;
  }

  /** From now on nothing is waited for. */
  end(): void {
    this.#hasEnded = true;
    this.#wakeUp();
  }

  async pause(ms: number): Promise<void> {
    if (ms <= 0 || this.#hasEnded) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wakeUp = () => {
        clearTimeout(timer);
        resolve();
      };
    });
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
