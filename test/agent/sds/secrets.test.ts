import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { Secrets } from '../../../src/agent/sds/secrets.ts';
import { svidOf, trustOf } from '../../fakes/held-workloads.ts';

const svid = svidOf('spiffe://prod.example/web');
const names = ['ROOTCA', 'ALL', 'spiffe://prod.example', 'allowed-clients'];

function secretsWith(crl: Buffer): Secrets {
  return new Secrets({ svids: [svid], trust: trustOf('prod.example', [crl]) });
}

test('the order of names makes no other answer', async () => {
  const secrets = secretsWith(randomBytes(1_000));
  const one = await secrets.answer([svid], names);
  expect(await secrets.answer([svid], names.toReversed())).toBe(one);
  expect(await secrets.answer([svid], [...names, 'spiffe://prod.example/other', 'ALL'])).toBe(one);
});

test('what a workload can ask for by other names fills no memory', async () => {
  const secrets = secretsWith(randomBytes(8_000_000));
  const subsets = Array.from({ length: 15 }, (_, at) => names.filter((_name, bit) => (at + 1) & (1 << bit)));
  const [first = []] = subsets;
  const before = await secrets.answer([svid], first);
  for (const subset of subsets) await secrets.answer([svid], subset);
  // Not `toBe`, which prints both.
  const isKept = async (subset: string[], answer: unknown) =>
    (await secrets.answer([svid], subset)) === answer;
  expect(await isKept(names, await secrets.answer([svid], names))).toBe(true);
  expect(await isKept(first, before)).toBe(false);
});
