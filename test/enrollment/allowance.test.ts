import { expect, test } from 'vitest';
import { Allowance } from '../../src/enrollment/allowance.ts';

const terms = { costMs: 1000, mostMs: 3000, rate: 1 };

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

test('what is owed counts by the terms of the moment', () => {
  const allowance = new Allowance();
  for (let index = 0; index < 3; index += 1) allowance.take('a', terms, 0);
  expect(allowance.take('a', { ...terms, mostMs: 4000 }, 0)).toBe(0);
  expect(allowance.take('a', { ...terms, rate: 10 }, 0)).toBe(200);
  expect(allowance.take('a', { ...terms, rate: 10 }, 200)).toBe(0);
  expect(allowance.take('a', { ...terms, costMs: 100, rate: 10 }, 200)).toBe(10);
});

test('who has earned all again is forgotten', () => {
  const allowance = new Allowance();
  for (let index = 0; index < 10_000; index += 1) allowance.take(`a${index}`, terms, index * 10);
  expect(allowance.size).toBeLessThan(250);
});
