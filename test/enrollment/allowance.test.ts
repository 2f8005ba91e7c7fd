import { expect, test } from 'vitest';
import { Allowance } from '../../src/enrollment/allowance.ts';

const terms = { everyMs: 1000, atOnce: 3 };

test('so many at once, then one after each while, and all again after a long one', () => {
  const allowance = new Allowance();
  const had = (nowMs: number) => allowance.take('a', terms, nowMs);
  expect([0, 0, 0, 0, 400].map(had)).toEqual([0, 0, 0, 1000, 600]);
  expect([1000, 1000].map(had)).toEqual([0, 1000]);
  expect(allowance.take('b', terms, 1000)).toBe(0);
  expect([9000, 9000, 9000, 9000].map(had)).toEqual([0, 0, 0, 1000]);
});

test('what came to nothing is given back', () => {
  const allowance = new Allowance();
  for (let index = 0; index < 3; index += 1) allowance.take('a', terms, 0);
  allowance.giveBack('a', terms);
  expect([0, 0].map((nowMs) => allowance.take('a', terms, nowMs))).toEqual([0, 1000]);
});

test('who has earned all again is forgotten', () => {
  const allowance = new Allowance();
  for (let index = 0; index < 10_000; index += 1) allowance.take(`a${index}`, terms, index * 10);
  expect(allowance.size).toBeLessThan(250);
});
