import { randomBytes } from 'node:crypto';
import { expect, test } from 'vitest';
import { sharedMinBytes } from '../../../src/agent/grpc/frame.ts';
import { Secrets } from '../../../src/agent/sds/secrets.ts';
import { svidOf, trustOf } from '../../fakes/held-workloads.ts';

const svid = svidOf('spiffe://prod.example/web');
const names = ['ROOTCA', 'ALL', 'spiffe://prod.example', 'allowed-clients'];

function secretsWith(crl: Buffer, svids = [svid]): Secrets {
  return new Secrets({ svids, trust: trustOf('prod.example', [crl]) });
}

test('the order of names makes no other answer', async () => {
  const secrets = secretsWith(randomBytes(1_000));
  const one = await secrets.answer([svid], names);
  expect(await secrets.answer([svid], names.toReversed())).toBe(one);
  expect(await secrets.answer([svid], [...names, 'spiffe://prod.example/other', 'ALL'])).toBe(one);
});

test('what a workload can ask for by other names fills no memory', async () => {
  const large = svidOf(svid.spiffeId, { chain: [randomBytes(8_000_000)] });
  const secrets = secretsWith(randomBytes(1_000), [large]);
  const subsets = Array.from({ length: 15 }, (_, at) => [
    large.spiffeId,
    ...names.filter((_name, bit) => (at + 1) & (1 << bit)),
  ]);
  const [first = []] = subsets;
  const before = await secrets.answer([large], first);
  for (const subset of subsets) await secrets.answer([large], subset);
  // Not `toBe`, which prints both.
  const isKept = async (subset: string[], answer: unknown) =>
    (await secrets.answer([large], subset)) === answer;
  expect(await isKept(names, await secrets.answer([large], names))).toBe(true);
  expect(await isKept(first, before)).toBe(false);
});

test('large CRLs are in memory once, for all names and for what is served next', async () => {
  const crl = randomBytes(1_000_000);
  const partsOf = async (secrets: Secrets, name: string) => {
    const answer = await secrets.answer([svid], [name]);
    return (answer?.frame ?? []).filter(({ length }) => length >= sharedMinBytes);
  };
  const secrets = secretsWith(crl);
  const [first, ...others] = await Promise.all([
    ...names.map((name) => partsOf(secrets, name)),
    partsOf(new Secrets({ svids: [svid], trust: trustOf('prod.example', [crl]) }, secrets), 'ALL'),
  ]);
  expect(first?.reduce((sum, { length }) => sum + length, 0)).toBeGreaterThan(crl.length);
  for (const parts of others) expect(parts.every((part, index) => part === first?.[index])).toBe(true);
});
