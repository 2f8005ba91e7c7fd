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

/** What attempts are made with. */
export interface Retries {
  backoff: Backoff;
  /** By `monotonicMs`. */
  deadlineMs: number;
  monotonicMs: () => number;
  signal: AbortSignal;
  /** Is told of each failure that is followed by another attempt. */
  failed: (error: VouchError, pauseMs: number) => void;
}

/**
 * Attempts until one succeeds, fails for good, or the deadline would pass before the next one; then the last failure is
 * thrown.
 */
export async function withRetries<T>(attempt: () => Promise<T>, options: Retries): Promise<T> {
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

/** What several attempts need once: a call runs `work` unless one before it has succeeded or is under way. */
export function untilDone<T>(work: () => Promise<T>): () => Promise<T> {
  let done: Promise<T> | undefined;
  return () => {
    done ??= work().catch((error: unknown) => {
      done = undefined;
      throw error;
    });
    return done;
  };
}

function givenUp(error: VouchError, attempts: number): VouchError {
  const options = error.retryAfterSeconds === undefined ? {} : { retryAfterSeconds: error.retryAfterSeconds };
  const tries = attempts === 1 ? 'one attempt' : `${attempts} attempts`;
  return new VouchError(error.code, `${error.detail} (gave up after ${tries}; try again later)`, {
    cause: error,
    ...options,
  });
}
