import { describe, expect, it } from 'vitest';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { rdnName } from '../../src/x509/name.ts';
import { validatePath } from '../../src/x509/path.ts';
import { ed25519Key, makeIssuer, makeLeaf, makeRoot, nowMs, nowSeconds, rsaKey } from './authority.ts';
import { expectRefusal } from './refusal.ts';
import { digitalSignature, issuer, leaf, rawLeaf, root, san, validate } from './path-fixtures.ts';

describe('validatePath takes', () => {
  it('leaf, issuer and root, the root in the chain or not, and gives the path back', () => {
    for (const chain of [
      [leaf, issuer.der],
      [leaf, issuer.der, root.der],
    ]) {
      const path = validatePath({ chain, roots: [makeRoot().der, root.der], nowMs });
      expect(path.map(({ der }) => der)).toEqual([leaf, issuer.der, root.der]);
    }
  });

  it('a leaf straight under the root', () => {
    expect(validate([makeLeaf(root)])).toHaveLength(2);
  });

  it.each([
    ['RSA', rsaKey()],
    ['Ed25519', ed25519Key()],
  ])('a root with %s', (_name, key) => {
    const other = makeRoot({}, key);
    const below = makeIssuer(other);
    expect(validate([makeLeaf(below), below.der], [other.der])).toHaveLength(3);
  });

  it('the right root of two that share name and key id', () => {
    const twin = makeRoot({ subjectKeyId: root.key.info.keyId });
    expect(validate([leaf, issuer.der], [twin.der, root.der])).toHaveLength(3);
  });

  it('the seconds that notBefore and notAfter name, and what the skew allows', () => {
    const bounded = makeLeaf(issuer, { notBeforeSeconds: nowSeconds, notAfterSeconds: nowSeconds });
    expect(validate([bounded, issuer.der], [root.der], nowMs)).toHaveLength(3);
    expect(validate([bounded, issuer.der], [root.der], nowMs + 999)).toHaveLength(3);
    expectRefusal(
      () => validate([bounded, issuer.der], [root.der], nowMs - 1),
      'denied-certificate',
      /not valid yet/,
    );
    expectRefusal(
      () => validate([bounded, issuer.der], [root.der], nowMs + 1000),
      'denied-certificate',
      /expired/,
    );
    expect(validate([bounded, issuer.der], [root.der], nowMs - 5000, 5000)).toHaveLength(3);
    expect(validate([bounded, issuer.der], [root.der], nowMs + 5999, 5000)).toHaveLength(3);
    expectRefusal(
      () => validate([bounded, issuer.der], [root.der], nowMs + 6000, 5000),
      'denied-certificate',
      /expired/,
    );
    expectRefusal(
      () => validate([bounded, issuer.der], [root.der], nowMs - 5001, 5000),
      'denied-certificate',
      /not valid yet/,
    );
  });

  it('a path as long as its issuers allow', () => {
    const top = makeRoot({ ca: { pathLength: 2 } });
    const first = makeIssuer(top, { ca: { pathLength: 1 }, subjectName: rdnName({ commonName: 'first' }) });
    const second = makeIssuer(first, {
      ca: { pathLength: 0 },
      subjectName: rdnName({ commonName: 'second' }),
    });
    expect(validate([makeLeaf(second), second.der, first.der], [top.der])).toHaveLength(4);
  });

  it('names within the constraints', () => {
    const constraints = { permittedUriDomains: ['example.org'], permittedDnsDomains: ['example.org'] };
    const bound = makeIssuer(root, { ca: { pathLength: 0, nameConstraints: constraints } });
    expect(validate([makeLeaf(bound), bound.der])).toHaveLength(3);
  });

  it('a root without SPIFFE ID when the trust domain is given', () => {
    const plain = makeRoot({ uris: [] });
    const below = makeIssuer(plain, { uris: [] });
    const options = { chain: [makeLeaf(below), below.der], roots: [plain.der], nowMs };
    expect(validatePath({ ...options, trustDomain: parseTrustDomain('example.org') })).toHaveLength(3);
    expectRefusal(() => validatePath(options), 'denied-certificate', /no trust domain was given/);
    expectRefusal(
      () => validatePath({ ...options, trustDomain: parseTrustDomain('other.org') }),
      'denied-certificate',
      /outside the trust domain/,
    );
  });

  it('a leaf without extendedKeyUsage, and an issuer for both ends of TLS', () => {
    expect(validate([rawLeaf([san, digitalSignature]), issuer.der])).toHaveLength(3);
  });
});
