/** Time as everything in Vouch reads it, so that tests can move it. */
export interface Clock {
  /** Wall clock, Unix milliseconds. */
  now(): number;
  /** Milliseconds since an arbitrary point of this boot, the same for every process, never going back. */
  monotonicMs(): number;
}

/** The machine's clocks. The only place that reads `Date.now`. */
export const systemClock: Clock = {
  now: () => Date.now(),
  // Not `performance.now()`, which begins anew with each process.
  monotonicMs: () => Number(process.hrtime.bigint() / 1000n) / 1000,
};

/** RFC 3339 in UTC with whole seconds, as every JSON answer prints times. */
export function rfc3339(unixMs: number): string {
  return new Date(Math.floor(unixMs / 1000) * 1000).toISOString().replace('.000Z', 'Z');
}
