import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../core/clock.ts';
import { asVouchError, type VouchError } from '../core/errors.ts';
import type { PublishedDocument, PublishTarget } from './port.ts';

/** Upper end of the pause after a first failure; doubled with each further one. Jittered, so that paths do not come in step. */
const pauseLeastMs = 500;
const pauseMostMs = 30_000;

/** How it stands with a target. */
export interface PushStatus {
  target: string;
  /** Paths whose newest document is not there yet. */
  waiting: number;
  failures: number;
  /** When something was put there last; undefined: not since the start. */
  lastPutMs: number | undefined;
  /** Why the last attempt of a path failed, of those that still wait. */
  problem: string | undefined;
}

/** One path of a target. */
interface Lane {
  next: PublishedDocument | undefined;
  /** Undefined once what was there last is put. */
  failure: VouchError | undefined;
  isRunning: boolean;
}

/** What is told of. */
export interface PushEvents {
  /** The first failure of a path since it worked. */
  failed: (target: string, path: string, error: VouchError) => void;
  clock: Clock;
}

/**
 * Puts what is published on one target, beside everything else: nobody waits for it. Of each path only the newest
 * document waits, and what failed is tried again until it is there. What a stop leaves behind is put at the next start,
 * when everything is published again.
 */
export class Pusher {
  readonly #target: PublishTarget;
  readonly #events: PushEvents;
  readonly #lanes = new Map<string, Lane>();
  readonly #running = new Set<Promise<void>>();
  readonly #stopping = new AbortController();
  readonly #turns: Turns;
  #failures = 0;
  #lastPutMs: number | undefined;

  constructor(target: PublishTarget, events: PushEvents) {
    this.#target = target;
    this.#turns = new Turns(target.atOnce);
    this.#events = events;
  }

  /** Takes the newest document of a path. */
  put(path: string, document: PublishedDocument): void {
    if (this.#stopping.signal.aborted) return;
    const lane = this.#lanes.get(path) ?? { next: undefined, failure: undefined, isRunning: false };
    this.#lanes.set(path, lane);
    lane.next = document;
    if (lane.isRunning) return;
    lane.isRunning = true;
    const running = this.#run(path, lane).finally(() => this.#running.delete(running));
    this.#running.add(running);
  }

  status(): PushStatus {
    const waiting = [...this.#lanes.values()].filter(({ isRunning }) => isRunning);
    return {
      target: this.#target.name,
      waiting: waiting.length,
      failures: this.#failures,
      lastPutMs: this.#lastPutMs,
      problem: waiting.find(({ failure }) => failure)?.failure?.detail,
    };
  }

  /** Stops at once; resolves when nothing is being put any more. */
  async close(): Promise<void> {
    this.#stopping.abort();
    await Promise.all(this.#running);
  }

  async #run(path: string, lane: Lane): Promise<void> {
    const { signal } = this.#stopping;
    for (let failures = 0; lane.next && !signal.aborted; ) {
      if (await this.#attempt(path, lane)) {
        failures = 0;
        continue;
      }
      failures += 1;
      const most = Math.min(pauseMostMs, pauseLeastMs * 2 ** Math.min(failures - 1, 16));
      await sleep((0.5 + Math.random() / 2) * most, undefined, { signal, ref: false }).catch(() => undefined);
    }
    lane.isRunning = false;
  }

  /** What waits now, unless a newer one comes while it waits for its turn. */
  async #attempt(path: string, lane: Lane): Promise<boolean> {
    const { signal } = this.#stopping;
    using _turn = await this.#turns.take();
    const document = lane.next;
    if (!document || signal.aborted) return true;
    lane.next = undefined;
    try {
      await this.#target.put(path, document, signal);
      this.#lastPutMs = this.#events.clock.now();
      lane.failure = undefined;
      return true;
    } catch (error) {
      lane.next ??= document;
      if (signal.aborted) return true;
      this.#failures += 1;
      const failure = asVouchError(error);
      if (!lane.failure) this.#events.failed(this.#target.name, path, failure);
      lane.failure = failure;
      return false;
    }
  }
}

/** So many at once; the others in their order. */
class Turns {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(free: number) {
    this.#free = free;
  }

  async take(): Promise<Disposable> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve) => this.#waiting.push(resolve));
    return {
      [Symbol.dispose]: () => {
        const next = this.#waiting.shift();
        if (next) next();
        else this.#free += 1;
      },
    };
  }
}
