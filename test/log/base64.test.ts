import fc from 'fast-check';
import { expect, it } from 'vitest';
import { decodeBase64, decodeBase64Url } from '../../src/log/base64.ts';

it('decodes what Buffer encodes', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (array) => {
      const bytes = Buffer.from(array);
      expect(decodeBase64(bytes.toString('base64'))).toEqual(bytes);
      expect(decodeBase64Url(bytes.toString('base64url'))).toEqual(bytes);
    }),
  );
});

it.each([
  'A',
  'AA',
  'AAA',
  'AA=',
  'AB==',
  'AAB=',
  'AA==\n',
  ' AA==',
  'A A==',
  'AA==AA==',
  '-_8=',
  'AA==x',
  '====',
  'AA\0==',
])('refuses %j as base64', (text) => {
  expect(decodeBase64(text)).toBeUndefined();
});

it.each(['A', 'AA==', 'AB', 'AAB', '+/8', 'AA\n', 'A A', 'AA.', 'AA='])('refuses %j as base64url', (text) => {
  expect(decodeBase64Url(text)).toBeUndefined();
});
