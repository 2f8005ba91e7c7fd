import type { Clock } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import { Backlog } from './backlog.ts';
import type { Waits } from './waits.ts';

/** What waits for longer is a problem: as long as an operator who revokes is made to wait. */
const lateAfterMs = 5_000;
/** Longest time between two attempts at a CRL that was refused. */
const refusedPauseMs = 60_000;

interface Parts {
  clock: Clock;
  waits: Waits;
  /** From the end of one round to the next, given how long it took, in milliseconds. */
  pauseMs: (tookMs: number) => number;
  /** Waits for what a round needs. */
  ready: (scopes: readonly string[]) => Promise<void>;
  /** Publishes these; calls `done` for each that is out, throws what kept the others back. */
  round: (scopes: readonly string[], scheduled: boolean, done: (scope: string) => void) => Promise<void>;
  failed: (scopes: readonly string[], problem: string) => void;
}

/** Works off a backlog of scopes: one round at a time, until nothing is left. A failure is tried again. */
export class Lane {
  readonly #parts: Parts;
  readonly #backlog = new Backlog();
  #loop: Promise<void> | undefined;
  #notBeforeMs = Number.NEGATIVE_INFINITY;
  #scheduled = false;
  #comes: () => void = () => undefined;
  /** Why the last attempt was refused, until one is not. */
  #refusal: string | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** The scope has to be published, by the schedule or for an event. */
  want(scope: string, scheduled = false): void {
    if (!this.#backlog.has(scope)) this.#comes();
    this.#backlog.add(scope, this.#parts.clock.monotonicMs());
    this.#scheduled ||= scheduled;
  }

  /** Begins with what is wanted. */
  kick(): void {
    if (this.#backlog.waiting().length > 0) this.#loop ??= this.#run();
  }

  /** Whether the scope waits here or is on its way. */
  has(scope: string): boolean {
    return this.#backlog.has(scope);
  }

  isTaken(scope: string): boolean {
    return this.#backlog.isTaken(scope);
  }

  /** Why what is wanted is not out. */
  problems(): string[] {
    const late = this.#backlog.olderThan(this.#parts.clock.monotonicMs() - lateAfterMs);
    return [
      ...(this.#refusal === undefined ? [] : [this.#refusal]),
      ...(late.length === 0
        ? []
        : [`not published for ${lateAfterMs / 1000} s and more: CRL ${late.join(' ')}`]),
    ];
  }

  async ended(): Promise<void> {
    await this.#loop;
  }

  async #run(): Promise<void> {
    const { clock, waits, pauseMs, ready, failed } = this.#parts;
    let refusals = 0;
    while (this.#backlog.waiting().length > 0 && !waits.hasEnded) {
      await waits.pause(this.#notBeforeMs - clock.monotonicMs());
      const startedMs = clock.monotonicMs();
      try {
        await ready(this.#backlog.waiting());
        await this.#round();
        refusals = 0;
        this.#refusal = undefined;
      } catch (error) {
        const { message } = asVouchError(error);
        const code = error instanceof VouchError ? error.code : 'internal';
        if (code === 'unavailable-stopping') break;
        failed(this.#backlog.waiting(), message);
        // What was refused is refused again, and each time by the signer is a leaf; what is away is noticed at once.
        const isAway = code.startsWith('unavailable-');
        refusals = isAway ? 0 : refusals + 1;
        if (!isAway) this.#refusal = message;
        await waits.pause(Math.min(1000 * 2 ** Math.max(0, refusals - 1), refusedPauseMs), this.#nextNew());
      }
      this.#notBeforeMs = startedMs + pauseMs(clock.monotonicMs() - startedMs);
    }
    // In the same turn as the last look at what is left, so that what comes next starts a new run.
    this.#loop = undefined;
  }

  /** When a scope is wanted that did not wait: what was refused for long keeps no other waiting. */
  #nextNew(): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#comes = resolve;
    return promise;
  }

  /** Takes the backlog in one turn with drafting it. What was not released waits again. */
  async #round(): Promise<void> {
    const scopes = this.#backlog.take();
    const scheduled = this.#scheduled;
    this.#scheduled = false;
    try {
      await this.#parts.round(scopes, scheduled, (scope) => this.#backlog.done(scope));
    } catch (error) {
      this.#scheduled ||= scheduled;
      throw error;
    } finally {
      this.#backlog.giveBack();
    }
  }
}
