import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { ClockMark } from '../store/port.ts';

/** How far the wall clock may lie behind the persisted mark. */
export const maxBehindMs = 5_000;
/** How far the wall clock may have run ahead of the monotonic clock. */
export const maxAheadMs = 60_000;

/** Both clocks at one moment. */
type Moment = Pick<ClockMark, 'wallMs' | 'monotonicMs'>;

/**
 * I12: tells whether the wall clock can be believed. It is doubted when it is more than 5 s behind the mark that was
 * persisted, or has run more than 60 s ahead of the monotonic clock since start; since the mark, where that was made
 * in this boot, so that a restart resolves no doubt. While in doubt nothing is issued, the mark does not move, and
 * nothing is dropped from a CRL; revocations are dated by `revocationTimeMs`.
 */
export class ClockGuard {
  readonly #clock: Clock;
  readonly #bootId: string;
  #mark: Moment;
  #base: Moment;

  /** `mark` as it was persisted; `bootId` names this boot. */
  constructor(clock: Clock, mark: ClockMark, bootId: string) {
    const now = { wallMs: clock.now(), monotonicMs: clock.monotonicMs() };
    const isOfThisBoot = mark.bootId === bootId && mark.monotonicMs <= now.monotonicMs;
    this.#clock = clock;
    this.#bootId = bootId;
    this.#mark = isOfThisBoot ? mark : { wallMs: mark.wallMs, monotonicMs: now.monotonicMs };
    this.#base = isOfThisBoot ? mark : now;
  }

  /** Why the clock is doubted, or undefined. */
  doubt(): string | undefined {
    if (__VOUCH_WITHOUT__ === 'I12') return undefined;
    const now = this.#clock.now();
    const behind = this.#mark.wallMs - now;
    if (behind > maxBehindMs) return `the wall clock is ${seconds(behind)} s behind the time already reached`;
    const ahead = now - this.#base.wallMs - (this.#clock.monotonicMs() - this.#base.monotonicMs);
    if (ahead > maxAheadMs) return `the wall clock jumped ${seconds(ahead)} s ahead`;
    return undefined;
  }

  /** Unix milliseconds for a new certificate. Throws `policy-clock` while in doubt. */
  issuanceTimeMs(): number {
    const doubt = this.doubt();
    if (doubt !== undefined)
      throw new VouchError(
        'policy-clock',
        `${doubt}; nothing is issued until the operator runs \`vouch doctor --accept-clock\``,
        {
          retryAfterSeconds: 60,
        },
      );
    return this.#clock.now();
  }

  /** Unix milliseconds for a revocation: max(now, mark), so that it is never dated before what was already known. */
  revocationTimeMs(): number {
    return Math.max(this.#clock.now(), this.#mark.wallMs);
  }

  /**
   * Unix milliseconds to go by while issuance is stopped: the wall clock where it is believed, else what the monotonic
   * clock makes of the last time that was. CRLs are dated by it, so that a jump reaches no peer.
   */
  steadyTimeMs(): number {
    if (this.doubt() === undefined) return this.#clock.now();
    const monotonicMs = this.#clock.monotonicMs();
    const since = (moment: Moment): number => moment.wallMs + monotonicMs - moment.monotonicMs;
    return Math.round(Math.max(since(this.#mark), since(this.#base)));
  }

  /** Unix milliseconds of the earliest moment that it may be: what has not expired by then can still be shown. */
  earliestTimeMs(): number {
    return Math.min(this.#clock.now(), this.steadyTimeMs());
  }

  /** The mark to persist now, or undefined where it must not move. */
  nextMark(): ClockMark | undefined {
    if (this.doubt() !== undefined || this.#clock.now() <= this.#mark.wallMs) return undefined;
    return this.#markNow();
  }

  /** The operator says that the wall clock is right; returns the mark to persist. */
  accept(): ClockMark {
    const mark = this.#markNow();
    this.#base = mark;
    return mark;
  }

  #markNow(): ClockMark {
    const mark = {
      wallMs: this.#clock.now(),
      monotonicMs: this.#clock.monotonicMs(),
      bootId: this.#bootId,
    };
    this.#mark = mark;
    return mark;
  }
}

function seconds(ms: number): number {
  return Math.round(ms / 1000);
}
