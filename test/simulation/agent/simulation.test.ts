import { expect, test } from 'vitest';
import { simulate } from './simulation.ts';

// A sample; `npm run test:agent-hours` runs 72 hours of as many seeds as it is told to.
test.each([1, 2])(
  'whatever happens within six hours, every workload has what is its own, and nothing else (seed %i)',
  async (seed) => {
    const { counts, problems } = await simulate({ hours: 6, seed });
    expect(problems).toEqual([]);
    expect(counts.checked).toBeGreaterThan(100_000);
    expect(counts.deaths).toBeGreaterThan(0);
    expect(counts.revocations).toBeGreaterThan(0);
  },
  240_000,
);

test('the same seed is the same run', async () => {
  const [one, other] = [await simulate({ hours: 2, seed: 3 }), await simulate({ hours: 2, seed: 3 })];
  expect(one.counts.deaths).toBeGreaterThan(0);
  expect(other).toEqual(one);
  expect((await simulate({ hours: 2, seed: 4 })).trace).not.toBe(one.trace);
}, 240_000);
