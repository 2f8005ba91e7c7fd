import { expect, test } from 'vitest';
import { ClockGuard, maxAheadMs, maxBehindMs } from '../../src/issuance/clock-guard.ts';
import { FakeClock } from '../fakes/clock.ts';

/** A guard of a process that has just started, with a mark that an earlier boot left. */
function guard(markOffsetMs = 0) {
  const clock = new FakeClock();
  const mark = { wallMs: clock.now() + markOffsetMs, monotonicMs: 0, bootId: 'an earlier boot' };
  return { clock, guard: new ClockGuard(clock, mark, 'this boot') };
}

test('a clock that runs is believed, and moves the mark', () => {
  const { clock, guard: clocks } = guard();
  clock.pass(3600_000);
  expect(clocks.doubt()).toBeUndefined();
  expect(clocks.nextMark()).toMatchObject({ wallMs: clock.now(), bootId: 'this boot' });
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
  expect(clocks.nextMark()).toBeUndefined();
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
  expect(clocks.accept()).toMatchObject({ wallMs: clock.now() });
  expect(clocks.doubt()).toBeUndefined();
  clock.step(-86_400_000);
  expect(clocks.doubt()).toContain('behind');
});

test.each([
  ['in the same boot', 'this boot', 'jumped 864000 s ahead'],
  ['in another boot, whose monotonic clock tells nothing of the one before', 'the next boot', undefined],
])('a clock that jumped ahead, and a start %s', (_name, boot, doubt) => {
  const { clock, guard: clocks } = guard();
  clock.pass(60_000);
  const mark = clocks.nextMark();
  if (!mark) throw new Error('the clock is believed');
  clock.pass(30_000);
  clock.step(10 * 86_400_000);
  const restarted = new ClockGuard(clock, mark, boot);
  if (doubt === undefined) expect(restarted.doubt()).toBeUndefined();
  else expect(restarted.doubt()).toContain(doubt);
});

test('after a start in the same boot the steady time still is that of the last mark', () => {
  const { clock, guard: clocks } = guard();
  clock.pass(60_000);
  const mark = clocks.nextMark();
  if (!mark) throw new Error('the clock is believed');
  clock.step(10 * 86_400_000);
  clock.pass(30_000);
  expect(new ClockGuard(clock, mark, 'this boot').steadyTimeMs()).toBe(mark.wallMs + 30_000);
});
