import type { Clock } from '../core/clock.ts';
import type { Sleep } from './sleep.ts';

/** Longest sleep at once: the wall clock is looked at again, which a suspended machine moves by hours, and so are orders. */
const maxSleepMs = 5_000;

/** A moment by both clocks. */
export interface Moment {
  wallMs: number;
  monotonicMs: number;
}

/** So long from now; now where `afterMs` is negative. */
export function momentOf(afterMs: number, clock: Clock): Moment {
  return { wallMs: clock.now() + afterMs, monotonicMs: clock.monotonicMs() + afterMs };
}

/** Whichever clock is there first: a suspended machine's monotonic one stands still, a wall clock may be set back. */
export function msUntil(moment: Moment, clock: Clock): number {
  return Math.min(moment.wallMs - clock.now(), moment.monotonicMs - clock.monotonicMs());
}

/** Until the moment, which is asked for each `lookMs` and may have become another, or until the signal aborts. */
export async function sleepUntil(
  due: () => Moment,
  { clock, signal, sleep }: { clock: Clock; signal: AbortSignal; sleep: Sleep },
  lookMs = maxSleepMs,
): Promise<void> {
  for (let ms = msUntil(due(), clock); ms > 0 && !signal.aborted; ms = msUntil(due(), clock))
    await sleep(Math.min(ms, lookMs), signal);
}
