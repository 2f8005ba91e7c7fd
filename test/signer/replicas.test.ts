import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { HsmConfig } from '../../src/signer/hsm.ts';
import { nextAddress } from '../../src/signer/replicas.ts';
import { temporaryFolder } from '../support/hsm.ts';

const address = (tokenLabel: string) => ({
  module: '/m.so',
  tokenLabel,
  tokenSerial: '1',
  pinFile: '/pin',
  environment: {},
});

it('tries one address a life: the first, and after a life that opened none the next, in a circle', () => {
  const file = join(temporaryFolder('replicas'), 'next-address');
  const hsm: HsmConfig = { ...address('a'), replicas: [address('b'), address('c')] };
  const label = () => nextAddress(hsm, file).hsm.tokenLabel;
  expect([label(), label(), label(), label(), label()]).toEqual(['a', 'b', 'c', 'a', 'b']);
  const { hsm: chosen, opened } = nextAddress(hsm, file);
  expect(chosen).toEqual(address('c'));
  opened();
  expect(label(), 'it was open: the first comes first again').toBe('a');
  writeFileSync(file, 'nonsense');
  expect(label()).toBe('a');
});

it('leaves a token without replicas alone', () => {
  const file = join(temporaryFolder('replicas'), 'next-address');
  const hsm = address('a');
  expect(nextAddress(hsm, file).hsm).toBe(hsm);
  expect(existsSync(file)).toBe(false);
});
