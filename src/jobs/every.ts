import { setTimeout as sleep } from 'node:timers/promises';

/** A task that runs until the signal and never rejects after it. */
export type Task = (signal: AbortSignal) => Promise<void>;

/**
 * Runs `work` each `ms` milliseconds, one at a time. What it throws goes to `failed`, and the next turn comes all the
 * same: a job that gives up is a certificate that expires.
 */
export function every(ms: number, work: () => void | Promise<void>, failed: (error: unknown) => void): Task {
  return async (signal) => {
    while (!signal.aborted) {
      try {
        await sleep(ms, undefined, { signal, ref: false });
      } catch {
        return;
      }
      try {
        await work();
      } catch (error) {
        failed(error);
      }
    }
  };
}
