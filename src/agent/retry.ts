import { setTimeout as sleep } from 'node:timers/promises';
import { VouchError } from '../core/errors.ts';

/** How attempts are spaced. */
export interface Backoff {
  /** Upper end of the first pause; doubled for each further one. */
  baseMs: number;
  /** Upper end of any pause. */
  capMs: number;
}

/** For someone who waits at a terminal, or a container that starts. */
export const bootBackoff: Backoff = { baseMs: 250, capMs: 5000 };

/** For an agent whose certificate is still good. */
export const backgroundBackoff: Backoff = { baseMs: 1000, capMs: 60_000 };

/**
 * The pause before attempt `failures` + 1: full jitter, anywhere from nothing to the doubled bound, so that a fleet
 * that lost its server does not come back in step; but never sooner than the server asked for (`Retry-After`), and
 * jittered past it.
 */
export function pauseMs(
  failures: number,
  backoff: Backoff,
  retryAfterSeconds = 0,
  random = Math.random,
): number {
  const bound = Math.min(backoff.capMs, backoff.baseMs * 2 ** Math.min(failures - 1, 30));
  return retryAfterSeconds * 1000 + random() * bound;
}

/** True for a failure that time may mend. */
export function isTransient(error: unknown): error is VouchError {
  return error instanceof VouchError && error.code.startsWith('unavailable-');
}

/**
 * Attempts until one succeeds, fails for good, or `deadlineMs` (by `monotonicMs`) would pass before the next one; then
 * the last failure is thrown. `failed` is told of each failure that is followed by another attempt.
 */
export async function withRetries<T>(
  attempt: () => Promise<T>,
  options: {
    backoff: Backoff;
    deadlineMs: number;
    monotonicMs: () => number;
    signal: AbortSignal;
    failed: (error: VouchError, pauseMs: number) => void;
  },
): Promise<T> {
  for (let failures = 1; ; failures += 1) {
    options.signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      if (options.signal.aborted || !isTransient(error)) throw error;
      const pause = pauseMs(failures, options.backoff, error.retryAfterSeconds);
      if (options.monotonicMs() + pause >= options.deadlineMs) throw givenUp(error, failures);
      options.failed(error, pause);
      await sleep(pause, undefined, { signal: options.signal });
    }
  }
}

function givenUp(error: VouchError, attempts: number): VouchError {
  const options = error.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: error.retryAfterSeconds };
  const tries = attempts === 1 ? 'one attempt' : `${attempts} attempts`;
  return new VouchError(error.code, `${error.detail} (gave up after ${tries}; try again later)`, {
    cause: error,
    ...options,
  });
}
