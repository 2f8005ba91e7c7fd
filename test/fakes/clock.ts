import type { Clock } from '../../src/core/clock.ts';

/** A clock that moves only when told to. */
export class FakeClock implements Clock {
  wallMs: number;
  elapsedMs = 0;

  constructor(wallMs = Date.parse('2026-11-21T12:00:00Z')) {
    this.wallMs = wallMs;
  }

  now(): number {
    return this.wallMs;
  }

  monotonicMs(): number {
    return this.elapsedMs;
  }

  /** Time passes: both clocks run. */
  pass(ms: number): void {
    this.wallMs += ms;
    this.elapsedMs += ms;
  }

  /** The wall clock is set; nothing else moves. */
  step(ms: number): void {
    this.wallMs += ms;
  }
}
