import { describe, expect, it } from 'vitest';
import { constraintViolation, type NameConstraints, type Subtrees } from '../../src/x509/name-constraints.ts';

const none: Subtrees = { uriDomains: [], dnsDomains: [], ipRanges: [], others: 0 };
const constraints = (permitted: Partial<Subtrees>, excluded: Partial<Subtrees> = {}): NameConstraints => ({
  critical: true,
  permitted: { ...none, ...permitted },
  excluded: { ...none, ...excluded },
});
const names = (change: { uris?: string[]; dnsNames?: string[]; ipAddresses?: string[] }) => ({
  uris: [],
  dnsNames: [],
  ipAddresses: [],
  ...change,
});
const range = (hex: string): Buffer => Buffer.from(hex, 'hex');

describe('URI constraints (RFC 5280 §4.2.1.10)', () => {
  it.each([
    ['spiffe://example.org/a', 'example.org', true],
    ['spiffe://example.org/a', 'EXAMPLE.org', true],
    ['https://EXAMPLE.ORG/a', 'example.org', true],
    ['https://user@example.org:8443/a', 'example.org', true],
    ['spiffe://sub.example.org/a', 'example.org', false],
    ['spiffe://sub.example.org/a', '.example.org', true],
    ['spiffe://example.org/a', '.example.org', false],
    ['spiffe://badexample.org/a', 'example.org', false],
    ['spiffe://example.org.evil/a', 'example.org', false],
    ['spiffe://evil/example.org', 'example.org', false],
    ['spiffe://evil?example.org', 'example.org', false],
    ['spiffe://evil#@example.org', 'example.org', false],
    ['spiffe://example.org', 'example.org', true],
    ['urn:example.org', 'example.org', false],
    ['spiffe:example.org', 'example.org', false],
    ['spiffe://192.0.2.1/a', '192.0.2.1', false],
    ['https://[::1]/a', '::1', false],
    ['https://[fe80::1%25eth0.example.org]/a', '.example.org', false],
    ['spiffe:///a', '', false],
  ])('%s within %s: %s', (uri, domain, isWithin) => {
    expect(
      constraintViolation(constraints({ uriDomains: [domain] }), names({ uris: [uri] })) === undefined,
    ).toBe(isWithin);
  });

  it('excludes, and refuses hosts that cannot be compared even then', () => {
    const excluded = constraints({}, { uriDomains: ['evil.org'] });
    expect(constraintViolation(excluded, names({ uris: ['spiffe://example.org/a'] }))).toBeUndefined();
    expect(constraintViolation(excluded, names({ uris: ['spiffe://EVIL.org/a'] }))).toMatch(/URI/);
    expect(constraintViolation(excluded, names({ uris: ['spiffe://127.0.0.1/a'] }))).toMatch(/URI/);
  });
});

describe('DNS constraints', () => {
  it.each([
    ['example.org', 'example.org', true],
    ['a.example.org', 'example.org', true],
    ['a.b.example.org', 'example.org', true],
    ['A.Example.ORG', 'example.org', true],
    ['badexample.org', 'example.org', false],
    ['example.org.evil', 'example.org', false],
    ['example.org', '.example.org', false],
    ['a.example.org', '.example.org', true],
    ['*.example.org', 'example.org', true],
    ['*.org', 'example.org', false],
    ['anything.test', '', true],
  ])('%s within %s: %s', (name, domain, isWithin) => {
    expect(
      constraintViolation(constraints({ dnsDomains: [domain] }), names({ dnsNames: [name] })) === undefined,
    ).toBe(isWithin);
  });

  it.each([
    ['secret.example.org', 'secret.example.org'],
    ['SECRET.example.org (CVE-2026-27137)', 'SECRET.example.org'],
    ['below it', 'a.secret.example.org'],
    ['a wildcard that reaches it (CVE-2025-61727)', '*.example.org'],
  ])('an excluded name refuses %s', (_name, name) => {
    expect(
      constraintViolation(
        constraints({}, { dnsDomains: ['secret.example.org'] }),
        names({ dnsNames: [name] }),
      ),
    ).toMatch(/DNS name/);
  });

  it('excluded wins over permitted', () => {
    const both = constraints({ dnsDomains: ['example.org'] }, { dnsDomains: ['secret.example.org'] });
    expect(constraintViolation(both, names({ dnsNames: ['a.example.org'] }))).toBeUndefined();
    expect(constraintViolation(both, names({ dnsNames: ['a.secret.example.org'] }))).toMatch(/DNS name/);
  });
});

describe('IP constraints', () => {
  it.each([
    ['10.1.2.3', '0a000000ff000000', true],
    ['11.1.2.3', '0a000000ff000000', false],
    ['::1', '0a000000ff000000', false],
    ['2001:db8::7', `20010db8${'0'.repeat(24)}ffffffff${'0'.repeat(24)}`, true],
    ['2001:db9::7', `20010db8${'0'.repeat(24)}ffffffff${'0'.repeat(24)}`, false],
  ])('%s within %s: %s', (address, hex, isWithin) => {
    const permitted = constraintViolation(
      constraints({ ipRanges: [range(hex)] }),
      names({ ipAddresses: [address] }),
    );
    expect(permitted === undefined).toBe(isWithin);
    const excluded = constraintViolation(
      constraints({}, { ipRanges: [range(hex)] }),
      names({ ipAddresses: [address] }),
    );
    expect(excluded === undefined).toBe(!isWithin);
  });
});

it('constraints bind only the types that they name, and fail closed on types that are not checked', () => {
  const dnsOnly = constraints({ dnsDomains: ['example.org'] });
  expect(
    constraintViolation(dnsOnly, names({ uris: ['spiffe://other.org/a'], ipAddresses: ['192.0.2.1'] })),
  ).toBeUndefined();
  expect(constraintViolation(constraints({ others: 1 }), names({}))).toMatch(/not checked/);
  expect(constraintViolation(constraints({}, { others: 1 }), names({}))).toMatch(/not checked/);
});
