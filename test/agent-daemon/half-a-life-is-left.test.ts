import { expect, test } from 'vitest';
import { earlyWindow } from '../../src/agent/held.ts';

const minute = 60_000;

test('who renews early in the window has more than half of the life left, with a margin for what fails', () => {
  // As the server gives it for an hour: 40 to 60 percent.
  const life = { notBeforeMs: -minute, notAfterMs: 60 * minute };
  const window = earlyWindow({ earliestMs: 24 * minute, latestMs: 36 * minute }, life);
  expect(window.earliestMs).toBe(24 * minute);
  expect(window.latestMs).toBeGreaterThan(window.earliestMs + minute);
  expect(life.notAfterMs - window.latestMs).toBeGreaterThanOrEqual(30 * minute + 3 * minute);
});

test('a window that begins later than that is taken at its beginning', () => {
  const life = { notBeforeMs: 0, notAfterMs: 60 * minute };
  expect(earlyWindow({ earliestMs: 40 * minute, latestMs: 50 * minute }, life)).toEqual({
    earliestMs: 40 * minute,
    latestMs: 40 * minute,
  });
});
