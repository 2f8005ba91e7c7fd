import { setTimeout as timer } from 'node:timers/promises';

/** Waits so long, or until the signal aborts; never rejects. Given to whoever waits, so that tests can move time. */
export type Sleep = (ms: number, signal: AbortSignal) => Promise<void>;

/** The machine's own. A timer takes 2³¹ − 1 ms at most. */
export const systemSleep: Sleep = (ms, signal) =>
  timer(Math.min(ms, 2 ** 31 - 1), undefined, { signal }).catch(() => undefined);
