import { expect, test } from 'vitest';
import { parseSpiffeId, parseTrustDomain } from '../../src/core/spiffe-id.ts';
import {
  allowedClient,
  registrableAddress,
  registrableDnsName,
  registrableId,
} from '../../src/registration/names.ts';

const ours = parseTrustDomain('example.org');

test.each([
  'spiffe://example.org/a',
  'spiffe://example.org/a/b.c-d_E/9',
  `spiffe://example.org/${'a'.repeat(2000)}`,
])('%s can be registered', (id) => expect(registrableId(id, ours)).toBe(id));

test.each([
  'spiffe://example.org',
  'spiffe://example.org/',
  'spiffe://example.org/a/',
  'spiffe://example.org//a',
  'spiffe://example.org/./a',
  'spiffe://example.org/a/../b',
  'spiffe://example.org/%2e%2e/admin',
  'spiffe://example.org/a?b',
  'spiffe://example.org/a#b',
  'spiffe://example.org:80/a',
  'spiffe://user@example.org/a',
  'spiffe://Example.org/a',
  'SPIFFE://example.org/a',
  'https://example.org/a',
  'spiffe:///a',
  'spiffe://example.org/ä',
  'spiffe://example.org/a b',
  'spiffe://example.org/a\n',
  `spiffe://example.org/${'a'.repeat(2048)}`,
  '',
])('%j is no SPIFFE ID of a workload', (id) => expect(() => parseSpiffeId(id)).toThrow(/SPIFFE ID/));

test.each([
  'spiffe://other.org/a',
  'spiffe://example.org/vouch',
  'spiffe://example.org/vouch/server',
  'spiffe://example.org/vouch/x/y',
])('%s cannot be registered here', (id) =>
  expect(() => registrableId(id, ours)).toThrow(/outside the trust domain|reserved/),
);

test('a name that only begins like a reserved one is free', () => {
  expect(registrableId('spiffe://example.org/vouchers', ours)).toBe('spiffe://example.org/vouchers');
});

test.each(['a', 'a.b', 'xn--bcher-kva.example', '1a.b2'])('%s is a DNS name', (name) =>
  expect(registrableDnsName(name)).toBe(name),
);
test.each([
  'A.b',
  '*.a',
  'a..b',
  '.a',
  'a.',
  '-a',
  'a-',
  'a_b',
  '10.0.0.1',
  'a\0b',
  'a, DNS:b',
  'bücher',
  `${'a'.repeat(64)}.b`,
  '',
  'a.1',
  'a.0x1f',
  'ab--cd.example',
  'xn--',
  'xn---a.example',
])('%j is no DNS name for a certificate', (name) =>
  expect(() => registrableDnsName(name)).toThrow(/DNS name/),
);

test.each(['10.0.0.1', '::1', '2001:db8::1'])('%s is an address', (address) =>
  expect(registrableAddress(address)).toBe(address),
);
test('an address has one spelling', () => expect(registrableAddress('2001:DB8:0::7')).toBe('2001:db8::7'));
test.each(['10.0.0', 'fe80::1%eth0', '0177.0.0.1', 'localhost', ''])('%j is no address', (address) =>
  expect(() => registrableAddress(address)).toThrow(/IP address/),
);

test.each(['spiffe://a/b', 'spiffe://a/b/*', 'spiffe://a/*'])('%s names callers', (text) =>
  expect(allowedClient(text)).toBe(text),
);
test.each(['*', 'spiffe://*', 'spiffe://a*', 'spiffe://a/b*', 'spiffe://a/../*', 'spiffe://a'])(
  '%j names no callers',
  (text) => expect(() => allowedClient(text)).toThrow(/SPIFFE ID/),
);
