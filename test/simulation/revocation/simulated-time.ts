import type { FakeClock } from '../../fakes/clock.ts';

/** Turns without end: something asks for the next one for ever. */
const turnsMost = 200_000;
/** What a look at `performance.now` costs here, so that long work is cut into slices. */
const lookMs = 0.25;

interface Timer {
  dueMs: number;
  run: () => void;
}

/**
 * Time in which everything waits by the fake clock: while it is installed, `setTimeout` and `performance.now` go by it, and
 * nothing happens but in turns of the event loop that are asked for.
 */
export class SimulatedTime {
  readonly clock: FakeClock;
  readonly #timers = new Map<number, Timer>();
  readonly #real = { setTimeout, clearTimeout, now: performance.now };
  #lastTimer = 0;
  #looks = 0;

  constructor(clock: FakeClock) {
    this.clock = clock;
  }

  install(): void {
    const set = (run: () => void, ms = 0): number => {
      this.#timers.set((this.#lastTimer += 1), {
        dueMs: this.clock.elapsedMs + Math.max(1, Math.ceil(ms)),
        run,
      });
      return this.#lastTimer;
    };
    const clear = (timer: number | undefined): void => void this.#timers.delete(timer ?? 0);
    const now = (): number => this.clock.elapsedMs + (this.#looks += 1) * lookMs;
    Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
    performance.now = now;
  }

  restore(): void {
    const { now, ...timers } = this.#real;
    Object.assign(globalThis, timers);
    performance.now = now;
  }

  /** The timers of a process end with it. */
  forgetTimers(): void {
    this.#timers.clear();
  }

  /** A turn of the event loop. */
  turn(): Promise<void> {
    return new Promise((resolve) => void setImmediate(resolve));
  }

  /** Lets everything go on that waits for no time. */
  async settle(): Promise<void> {
    for (let turns = 0, quiet = 0; quiet < 2; turns += 1) {
      if (turns > turnsMost) throw new Error('it never comes to rest');
      await this.turn();
      quiet = process.getActiveResourcesInfo().includes('Immediate') ? 0 : quiet + 1;
    }
  }

  /** Lets time pass, with everything that is due meanwhile. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.clock.elapsedMs + Math.ceil(ms);
    for (let next = this.#next(untilMs); next; next = this.#next(untilMs)) {
      const [id, { dueMs, run }] = next;
      this.#timers.delete(id);
      this.clock.pass(Math.max(0, dueMs - this.clock.elapsedMs));
      run();
      await this.settle();
    }
    this.clock.pass(Math.max(0, untilMs - this.clock.elapsedMs));
  }

  #next(untilMs: number): [number, Timer] | undefined {
    let next: [number, Timer] | undefined;
    for (const one of this.#timers)
      if (one[1].dueMs <= untilMs && (!next || one[1].dueMs < next[1].dueMs)) next = one;
    return next;
  }
}
