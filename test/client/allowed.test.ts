import fc from 'fast-check';
import { expect, test } from 'vitest';
import { isAllowed, parseAllowed } from '../../src/client/allowed.ts';
import { fullCrlUrl } from '../../src/client/crl-source.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';

const id = (path: string) => parseSpiffeId(`spiffe://td${path}`);

test.each([
  ['/a', ['spiffe://td/a'], true],
  ['/a', ['spiffe://td/ab'], false],
  ['/ab', ['spiffe://td/a'], false],
  ['/A', ['spiffe://td/a'], false],
  ['/a/b', ['spiffe://td/a/*'], true],
  ['/a/b/c', ['spiffe://td/a/*'], true],
  ['/a', ['spiffe://td/a/*'], false],
  ['/ab', ['spiffe://td/a/*'], false],
  ['/a', ['spiffe://td/*'], true],
  ['/a', ['spiffe://other/*'], false],
  ['/a', [], false],
  ['/a', ['spiffe://x/a', 'spiffe://td/a'], true],
])('%s by %j is %s', (path, list, expected) => {
  expect(isAllowed(id(path), parseAllowed(list))).toBe(expected);
});

test.each([
  '*',
  '',
  'spiffe://',
  'spiffe:///*',
  'spiffe://td',
  'spiffe://td/',
  'spiffe://td/a*',
  'spiffe://td/*/b',
  'spiffe://td/a/../b',
  'https://td/a',
  'spiffe://TD/*',
  'spiffe://td//*',
])('%s is no pattern', (pattern) => {
  expect(() => parseAllowed([pattern])).toThrow(/allowed peers must be/);
});

test('a prefix allows exactly what stands under it', () => {
  const segment = fc.stringMatching(/^[a-z]{1,3}$/);
  fc.assert(
    fc.property(
      fc.array(segment, { minLength: 1, maxLength: 4 }),
      fc.array(segment, { minLength: 1, maxLength: 4 }),
      (prefix, path) => {
        const allowed = parseAllowed([`spiffe://td/${prefix.join('/')}/*`]);
        const under = path.length > prefix.length && prefix.every((part, index) => path[index] === part);
        expect(isAllowed(id(`/${path.join('/')}`), allowed)).toBe(under);
      },
    ),
  );
});

test("the full CRL's URL beside a shard's", () => {
  const keyId = 'ab'.repeat(20);
  expect(fullCrlUrl(`http://pki/crl/${keyId}/03.crl`)).toBe(`http://pki/crl/${keyId}.crl`);
  expect(fullCrlUrl(`http://pki/crl/${keyId}.crl`)).toBe(`http://pki/crl/${keyId}.crl`);
  expect(fullCrlUrl('http://other/x/3.crl')).toBe('http://other/x/3.crl');
});
