import { VouchError } from './errors.ts';

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

/**
 * Unix milliseconds of an RFC 3339 time in UTC, as operators write it: `2026-11-26T04:00:00Z`, seconds with up to three
 * decimals. Throws `request-malformed`.
 */
export function parseRfc3339(text: string): number {
  const ms = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,3})?Z$/.test(text) ? Date.parse(text) : Number.NaN;
  // The 30th of February reads as a day in March.
  if (!Number.isFinite(ms) || ms < 0 || rfc3339(ms).slice(0, 19) !== text.slice(0, 19))
    throw new VouchError(
      'request-malformed',
      `a time is written as 2026-11-26T04:00:00Z (RFC 3339, UTC): ${JSON.stringify(text)}`,
    );
  return ms;
}
