import { expect, it } from 'vitest';
import { Pace } from '../../src/sequencer/pace.ts';

/** Batches as a signer answers them that takes `msEach` for a signature, with two under way at a time. */
function batches(pace: Pace, count: number, msEach: number): number {
  for (let batch = 0; batch < count; batch += 1) {
    const mutations = pace.mutations(64);
    pace.took(mutations, 2 * msEach * (mutations + 1));
  }
  return pace.mutations(64);
}

it('a quick signer gets whole batches', () => {
  const pace = new Pace();
  expect(pace.mutations(64)).toBe(64);
  expect(batches(pace, 100, 0.2)).toBe(64);
});

it('a slow one gets so few that a batch is answered in about a second, well before its deadline', () => {
  const pace = new Pace();
  const few = batches(pace, 100, 40);
  expect(few).toBeGreaterThanOrEqual(8);
  expect(2 * 40 * (few + 1)).toBeLessThan(1500);
  // However slow, batches stay batches.
  expect(batches(pace, 100, 5000)).toBe(8);
});

it('a fault is forgotten within a few batches', () => {
  const pace = new Pace();
  batches(pace, 10, 0.2);
  pace.took(1, 3000);
  expect(pace.mutations(64)).toBeLessThan(64);
  expect(batches(pace, 20, 0.2)).toBe(64);
});
