import { expect, test } from 'vitest';
import { ClockGuard, maxAheadMs, maxBehindMs } from '../../src/issuance/clock-guard.ts';
import { FakeClock } from '../fakes/clock.ts';

function guard(markOffsetMs = 0) {
  const clock = new FakeClock();
  return { clock, guard: new ClockGuard(clock, clock.now() + markOffsetMs) };
}

test('a clock that runs is believed, and moves the mark', () => {
  const { clock, guard: clocks } = guard();
  clock.pass(3600_000);
  expect(clocks.doubt()).toBeUndefined();
  expect(clocks.nextMarkMs()).toBe(clock.now());
  expect(clocks.issuanceTimeMs()).toBe(clock.now());
});

test.each([
  ['just within the mark', maxBehindMs, undefined],
  ['an hour behind the mark', 3600_000, 'behind'],
])('a start %s', (_name, offset, doubt) => {
  const { guard: clocks } = guard(offset);
  if (doubt === undefined) expect(clocks.doubt()).toBeUndefined();
  else expect(clocks.doubt()).toContain(doubt);
});

test.each([
  ['an hour back', -3600_000, 'behind'],
  ['ten days ahead', 10 * 86_400_000, 'jumped'],
  ['just over the limit ahead', maxAheadMs + 1, 'jumped'],
])('a step of %s stops issuance, keeps the mark, and revocations go on', (_name, step, doubt) => {
  const { clock, guard: clocks } = guard();
  const before = clock.now();
  clock.step(step);
  expect(clocks.doubt()).toContain(doubt);
  expect(() => clocks.issuanceTimeMs()).toThrow(expect.objectContaining({ code: 'policy-clock' }));
  expect(clocks.nextMarkMs()).toBeUndefined();
  expect(clocks.revocationTimeMs()).toBeGreaterThanOrEqual(before);
});

test("a small step is nobody's business", () => {
  const { clock, guard: clocks } = guard();
  clock.step(maxAheadMs);
  expect(clocks.doubt()).toBeUndefined();
  clock.step(-maxAheadMs - maxBehindMs);
  expect(clocks.doubt()).toBeUndefined();
});

test('the operator may say that the clock is right', () => {
  const { clock, guard: clocks } = guard();
  clock.step(10 * 86_400_000);
  expect(clocks.accept()).toBe(clock.now());
  expect(clocks.doubt()).toBeUndefined();
  clock.step(-86_400_000);
  expect(clocks.doubt()).toContain('behind');
});
