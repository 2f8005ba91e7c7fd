import { expect, test } from 'vitest';
import { simulate } from './simulation.ts';

// A sample; `npm run test:revocations` runs 100,000.
test.each([1, 2, 3])(
  'every CRL that is published is true, whatever happens between two steps (seed %i)',
  async (seed) => {
    const { counts, problems, refused } = await simulate({ revocations: 200, seed });
    expect({ problems, refused }).toEqual({ problems: [], refused: [] });
    expect(counts.crashes).toBeGreaterThan(5);
    expect(counts.published).toBeGreaterThan(300);
  },
);
