import { expect, test } from 'vitest';
import { FairQueue } from '../../src/jobs/fair-queue.ts';

const items = (owner: string, count: number) =>
  Array.from({ length: count }, (_, index) => `${owner}${index}`);

function filled(most: number, ...owners: readonly (readonly [string, number])[]): FairQueue<string> {
  const queue = new FairQueue<string>(most);
  for (const [owner, count] of owners) for (const item of items(owner, count)) queue.add(owner, item);
  return queue;
}

test('each takes a turn with one', () => {
  expect(filled(9, ['a', 4], ['b', 2]).take(9)).toEqual(['a0', 'b0', 'a1', 'b1', 'a2', 'a3']);
});

test('full, who has most waiting makes room for who has less, last come first', () => {
  const queue = filled(8, ['a', 5], ['b', 3]);
  expect(['c0', 'c1', 'c2', 'c3'].map((item) => queue.add('c', item))).toEqual(['a4', 'a3', 'c2', 'c3']);
  expect(queue.size).toBe(8);
  expect(queue.take(9)).toEqual(['a0', 'b0', 'c0', 'a1', 'b1', 'c1', 'a2', 'b2']);
});

test('full of those who want one each, the next one has to wait', () => {
  const queue = filled(3, ['a', 1], ['b', 1], ['c', 1]);
  expect(queue.add('d', 'd0')).toBe('d0');
  expect(queue.add('a', 'a1')).toBe('a1');
  expect(queue.take(9)).toEqual(['a0', 'b0', 'c0']);
});
