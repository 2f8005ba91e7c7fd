import { syncBuiltinESMExports } from 'node:module';
import timersPromises from 'node:timers/promises';
import type { FakeClock } from '../../fakes/clock.ts';
import type { Random } from '../../kills/random.ts';
import { Threadless } from './threadless.ts';

/** Turns without end: something asks for the next one for ever. */
const turnsMost = 1_000_000;

/** What `setTimeout` gives out here. */
class VirtualTimer {
  dueMs: number;
  readonly #ms: number;
  readonly #run: () => void;
  readonly #time: VirtualTime;

  constructor(time: VirtualTime, ms: number, run: () => void) {
    this.#time = time;
    this.#ms = Math.max(1, Math.ceil(ms));
    this.#run = run;
    this.dueMs = time.clock.elapsedMs + this.#ms;
    time.timers.add(this);
  }

  fire(): void {
    this.#time.timers.delete(this);
    this.#run();
  }

  refresh(): this {
    if (this.#time.timers.has(this)) this.dueMs = this.#time.clock.elapsedMs + this.#ms;
    return this;
  }

  close(): void {
    this.#time.timers.delete(this);
  }

  unref(): this {
    return this;
  }

  ref(): this {
    return this;
  }
}

/**
 * Time in which everything waits by a fake clock, and chance by a seed. While it is installed the globals of this process
 * (timers, `Date.now`, which is the server's true time, `performance.now`, `Math.random`) go by it, and nothing is done on
 * threads: the same seed gives the same run.
 */
export class VirtualTime {
  readonly clock: FakeClock;
  readonly timers = new Set<VirtualTimer>();
  /** Called at each turn of the event loop. */
  turned: () => void = () => undefined;
  readonly #startMs: number;
  readonly #real = {
    setTimeout,
    clearTimeout,
    dateNow: Date.now,
    performanceNow: performance.now,
    random: Math.random,
    sleep: timersPromises.setTimeout,
    timeout: AbortSignal.timeout,
  };
  readonly #threadless = new Threadless();
  #rests = 0;

  constructor(clock: FakeClock) {
    this.clock = clock;
    this.#startMs = clock.wallMs - clock.elapsedMs;
  }

  /** True time, Unix milliseconds. */
  get nowMs(): number {
    return this.#startMs + this.clock.elapsedMs;
  }

  /** Calls for files and keys, and how often all came to rest. */
  get steps(): number {
    return this.#threadless.steps + this.#rests;
  }

  install(random: Random): void {
    this.#threadless.install();
    const set = (run: (...args: unknown[]) => void, ms = 0, ...args: unknown[]) =>
      new VirtualTimer(this, ms, () => run(...args));
    const clear = (timer?: unknown): void => void (timer instanceof VirtualTimer && timer.close());
    Object.assign(globalThis, { setTimeout: set, clearTimeout: clear });
    Date.now = () => this.nowMs;
    performance.now = () => this.clock.elapsedMs;
    Math.random = () => random.unit();
    AbortSignal.timeout = (ms) => {
      const { signal, abort } = abortable();
      new VirtualTimer(this, ms, () => abort(new DOMException('timed out', 'TimeoutError')));
      return signal;
    };
    const wait = (ms?: number, value?: unknown, options?: { signal?: AbortSignal }) =>
      this.#wait(ms ?? 0, options?.signal).then(() => value);
    Object.assign(timersPromises, { setTimeout: wait });
    syncBuiltinESMExports();
  }

  restore(): void {
    const { dateNow, performanceNow, random, sleep, timeout, ...timers } = this.#real;
    this.#threadless.restore();
    Object.assign(globalThis, timers);
    Date.now = dateNow;
    performance.now = performanceNow;
    Math.random = random;
    AbortSignal.timeout = timeout;
    Object.assign(timersPromises, { setTimeout: sleep });
    syncBuiltinESMExports();
  }

  /** As `Sleep`: never rejects. */
  readonly sleep = (ms: number, signal?: AbortSignal): Promise<void> =>
    this.#wait(ms, signal).catch(() => undefined);

  #wait(ms: number, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (signal?.aborted === true) return Promise.reject(signal.reason as Error);
    const timer = new VirtualTimer(this, ms, () => {
      signal?.removeEventListener('abort', abort);
      resolve();
    });
    const abort = (): void => {
      timer.close();
      reject(signal?.reason as Error);
    };
    signal?.addEventListener('abort', abort, { once: true });
    return promise;
  }

  /** Lets everything go on that waits for no time. */
  async settle(): Promise<void> {
    this.#rests += 1;
    for (let turns = 0, quiet = 0; quiet < 2; turns += 1) {
      if (turns > turnsMost) throw new Error('it never comes to rest');
      await new Promise<void>((done) => void setImmediate(done));
      const isImmediate = process.getActiveResourcesInfo().includes('Immediate');
      this.turned();
      quiet = isImmediate ? 0 : quiet + 1;
    }
  }

  /** Lets time pass, with everything that is due meanwhile. */
  async pass(ms: number): Promise<void> {
    const untilMs = this.clock.elapsedMs + Math.ceil(ms);
    for (let next = this.#next(untilMs); next; next = this.#next(untilMs)) {
      this.clock.pass(Math.max(0, next.dueMs - this.clock.elapsedMs));
      next.fire();
      await this.settle();
    }
    this.clock.pass(Math.max(0, untilMs - this.clock.elapsedMs));
  }

  #next(untilMs: number): VirtualTimer | undefined {
    let next: VirtualTimer | undefined;
    for (const one of this.timers)
      if (one.dueMs <= untilMs && (next === undefined || one.dueMs < next.dueMs)) next = one;
    return next;
  }
}

function abortable(): { signal: AbortSignal; abort: (reason: unknown) => void } {
  const controller = new AbortController();
  return { signal: controller.signal, abort: (reason) => controller.abort(reason) };
}
