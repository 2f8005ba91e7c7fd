// The matrix leaves out no function that the signer calls, and its sample none of its rows and columns.
import { expect, test } from 'vitest';
import { Random } from '../kills/random.ts';
import { allCases, calledFunctions, nameOf, returnValues, sampled } from './cases.ts';

test('each return value comes from each function, once and for a while, at rest and under load', () => {
  const cases = allCases();
  expect(calledFunctions()).toEqual(
    expect.arrayContaining(['C_Initialize', 'C_Login', 'C_SignInit', 'C_Sign']),
  );
  expect(calledFunctions()).not.toContain('C_GenerateKeyPair');
  expect(new Set(cases.map(nameOf)).size).toBe(returnValues.length * calledFunctions().length * 4);
  expect(cases).toHaveLength(new Set(cases.map(nameOf)).size);
});

test.each([1, 2, 3])('a sample has every return value and every function %i times', (each) => {
  const random = new Random(each, 0);
  const sample = sampled(allCases(), each, () => random.unit());
  for (const name of [...returnValues, ...calledFunctions()])
    expect(
      sample.filter(({ ckr, call }) => ckr === name || call === name).length,
      name,
    ).toBeGreaterThanOrEqual(each);
  expect(sample.length).toBeLessThanOrEqual(each * (returnValues.length + 4));
});
