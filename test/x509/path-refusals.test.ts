import { describe, expect, it } from 'vitest';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import {
  assembleSigned,
  buildCertificateTbs,
  type CertificateTemplate,
} from '../../src/x509/certificate-tbs.ts';
import { boolean, implicit, nullValue, oid, sequence } from '../../src/x509/der.ts';
import { rdnName } from '../../src/x509/name.ts';
import { validatePath } from '../../src/x509/path.ts';
import {
  ecKey,
  leafTemplate,
  makeIssuer,
  makeLeaf,
  makeRoot,
  nowMs,
  nowSeconds,
  type TestAuthority,
  workloadId,
} from './authority.ts';
import { rawExtension } from './raw-certificate.ts';
import { bestOfThreeMs, limitMs } from '../support/limits.ts';
import { expectRefusal, refusalOf } from './refusal.ts';
import {
  ca,
  digitalSignature,
  issuer,
  keyUsage,
  leaf,
  rawCa,
  rawLeaf,
  root,
  san,
  validate,
} from './path-fixtures.ts';

describe('validatePath refuses', () => {
  const refuses = (chain: readonly Buffer[], detail: RegExp, roots: readonly Buffer[] = [root.der]): void => {
    expectRefusal(() => validate(chain, roots), 'denied-certificate', detail);
  };
  const changed = (change: Partial<CertificateTemplate>): void =>
    refuses([makeLeaf(issuer, change), issuer.der], /./);

  it('nothing, a root alone, and a chain without end', () => {
    refuses([], /1 to 8 certificates/);
    refuses([leaf, issuer.der], /1 to 64 roots/, []);
    refuses([root.der], /root cannot stand for a workload/);
    refuses(Array<Buffer>(9).fill(leaf), /1 to 8 certificates/);
    refuses([leaf], /ends at no root/);
    refuses([leaf, issuer.der, issuer.der], /chain is broken/);
  });

  it('a chain in the wrong order, or with a stranger in it', () => {
    refuses([issuer.der, leaf], /chain is broken/);
    refuses([leaf, root.der, issuer.der], /chain is broken/);
    refuses(
      [leaf, makeIssuer(root, { subjectName: rdnName({ commonName: 'stranger' }) }).der],
      /issuer name differs/,
    );
  });

  it('an unknown root, even one that looks like ours', () => {
    const twin = makeRoot();
    const below = makeIssuer(twin);
    refuses([makeLeaf(below), below.der], /ends at no root/);
    refuses([makeLeaf(below), below.der, twin.der], /ends at no root/);
  });

  it("a sibling root with our root's name and key id but another key (CVE-2024-2048, CVE-2025-6037)", () => {
    const sibling = makeRoot({ subjectKeyId: root.key.info.keyId, authorityKeyId: root.key.info.keyId });
    const below = makeIssuer({ ...root, key: { ...sibling.key, info: root.key.info } });
    refuses([makeLeaf(below), below.der], /not signed by its issuer/);
    refuses([makeLeaf(below), below.der, sibling.der], /not signed by its issuer/);
  });

  it('a sibling issuer with the same name and key id but the wrong signature', () => {
    const other = ecKey();
    const forged = makeIssuer(root, { subjectKeyId: issuer.key.info.keyId, spki: other.info.spki });
    refuses([leaf, forged.der], /not signed by its issuer/);
    const selfMade = makeIssuer(
      { ...root, key: { ...other, info: root.key.info, algorithm: 'ecdsa-sha256' } },
      { algorithm: 'ecdsa-sha256' },
    );
    refuses([makeLeaf(selfMade), selfMade.der], /not signed by its issuer/);
  });

  it('a signature with one bit flipped, anywhere in the path', () => {
    for (const index of [0, 1]) {
      const chain = [Buffer.from(leaf), Buffer.from(issuer.der)];
      const target = chain[index] ?? leaf;
      target[target.length - 1] = (target.at(-1) ?? 0) ^ 1;
      refuses(chain, /not signed by its issuer|not valid DER/);
    }
    const brokenRoot = Buffer.from(root.der);
    brokenRoot[brokenRoot.length - 1] = (brokenRoot.at(-1) ?? 0) ^ 1;
    refuses([leaf, issuer.der], /not signed by its issuer/, [brokenRoot]);
  });

  it('an empty signature', () => {
    refuses(
      [
        assembleSigned(buildCertificateTbs(leafTemplate(issuer, ecKey())), 'ecdsa-sha256', Buffer.alloc(0)),
        issuer.der,
      ],
      /not signed/,
    );
  });

  it('a leaf acting as CA', () => {
    const key = ecKey();
    const workload: TestAuthority = {
      key,
      name: rdnName({ commonName: 'workload' }),
      der: makeLeaf(issuer, { subjectName: rdnName({ commonName: 'workload' }) }, key),
    };
    refuses([makeLeaf(workload), workload.der, issuer.der], /an issuer is not a CA/);
  });

  it('an issuer without basicConstraints (CVE-2026-33896), without keyUsage, or with neither critical', () => {
    const issuerSan = rawExtension(
      '2.5.29.17',
      sequence(implicit(6, Buffer.from('spiffe://example.org'))),
      true,
    );
    const basicConstraints = (critical: boolean): Buffer =>
      rawExtension('2.5.29.19', sequence(boolean(true)), critical);
    const under = (extensions: readonly Buffer[], detail: RegExp): void => {
      const made = rawCa(extensions);
      refuses([makeLeaf(made), made.der], detail);
    };
    under([issuerSan, keyUsage(0x06, 1)], /an issuer is not a CA/);
    under([issuerSan, basicConstraints(false), keyUsage(0x06, 1)], /an issuer is not a CA/);
    under([issuerSan, basicConstraints(true)], /may not sign certificates/);
    under([issuerSan, basicConstraints(true), keyUsage(0x02, 1)], /may not sign certificates/);
    under([issuerSan, basicConstraints(true), keyUsage(0x06, 1, false)], /may not sign certificates/);
    under(
      [
        issuerSan,
        basicConstraints(true),
        keyUsage(0x06, 1),
        rawExtension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.9'))),
      ],
      /other usages/,
    );
    under(
      [issuerSan, basicConstraints(true), keyUsage(0x06, 1), rawExtension('1.2.3', nullValue, true)],
      /not understood: 1\.2\.3/,
    );
  });

  it('a path longer than an issuer allows', () => {
    const first = makeIssuer(root, { ca: { pathLength: 0 }, subjectName: rdnName({ commonName: 'first' }) });
    const second = makeIssuer(first, { ca, subjectName: rdnName({ commonName: 'second' }) });
    refuses([makeLeaf(second), second.der, first.der], /longer than an issuer allows/);
    const top = makeRoot({ ca: { pathLength: 0 } });
    const below = makeIssuer(top, { ca });
    refuses([makeLeaf(below), below.der], /longer than an issuer allows/, [top.der]);
  });

  it('what has expired or is not valid yet: leaf, issuer or root', () => {
    refuses(
      [makeLeaf(issuer, { notAfterSeconds: nowSeconds - 1, notBeforeSeconds: nowSeconds - 60 }), issuer.der],
      /has expired/,
    );
    refuses([makeLeaf(issuer, { notBeforeSeconds: nowSeconds + 1 }), issuer.der], /not valid yet/);
    const old = makeIssuer(root, { notAfterSeconds: nowSeconds - 1 });
    refuses([makeLeaf(old), old.der], /has expired/);
    const early = makeRoot({ notBeforeSeconds: nowSeconds + 1 });
    const below = makeIssuer(early);
    refuses([makeLeaf(below), below.der], /not valid yet/, [early.der]);
  });

  it('key ids that are missing or do not chain', () => {
    refuses([makeLeaf(issuer, { authorityKeyId: 'ab'.repeat(20) }), issuer.der], /authority key id/);
    const noSki = rawCa([rawExtension('2.5.29.19', sequence(boolean(true)), true), keyUsage(0x06, 1)], false);
    refuses([makeLeaf(noSki), noSki.der], /authority key id/);
  });

  it('a SPIFFE ID of another trust domain, under it or above it', () => {
    refuses(
      [makeLeaf(issuer, { uris: ['spiffe://other.org/payments'] }), issuer.der],
      /outside the trust domain/,
    );
    const foreign = makeIssuer(root, { uris: ['spiffe://other.org'] });
    refuses([makeLeaf(foreign), foreign.der], /issuer's SPIFFE ID/);
    const pathed = makeIssuer(root, { uris: ['spiffe://example.org/ca'] });
    refuses([makeLeaf(pathed), pathed.der], /issuer's SPIFFE ID/);
    const double = makeIssuer(root, { uris: ['spiffe://example.org', 'spiffe://example.org'] });
    refuses([makeLeaf(double), double.der], /issuer's SPIFFE ID/);
    const odd = makeRoot({ uris: ['https://example.org'] });
    refuses([makeLeaf(odd)], /trust domain must be/, [odd.der]);
    expectRefusal(
      () =>
        validatePath({
          chain: [leaf, issuer.der],
          roots: [root.der],
          nowMs,
          trustDomain: parseTrustDomain('other.org'),
        }),
      'denied-certificate',
      /root is of the trust domain example\.org/,
    );
  });

  it.each([
    ['no URI', { uris: [] }],
    ['two URIs (CVE-2022-40716)', { uris: [workloadId, 'spiffe://example.org/admin'] }],
    ['one URI twice', { uris: [workloadId, workloadId] }],
    ['a URI that is no SPIFFE ID', { uris: ['https://example.org/a'] }],
    ['a SPIFFE ID without path', { uris: ['spiffe://example.org'] }],
    ['a SPIFFE ID with ..', { uris: ['spiffe://example.org/a/../admin'] }],
    ['a SPIFFE ID with percent encoding', { uris: ['spiffe://example.org/%2e%2e/admin'] }],
    ['a SPIFFE ID with a port', { uris: ['spiffe://example.org:443/a'] }],
    ['an upper-case trust domain', { uris: ['spiffe://Example.org/a'] }],
    ['CA rights', { ca: {} }],
    ['CA rights without a limit', { ca: { pathLength: 5 } }],
  ])('a leaf with %s', (_name, change) => {
    changed(change);
  });

  it.each([
    ['no keyUsage', [san], /may not make signatures/],
    ['keyUsage that is not critical', [san, keyUsage(0x80, 7, false)], /may not make signatures/],
    ['keyEncipherment only', [san, keyUsage(0x20, 5)], /may not make signatures/],
    ['keyCertSign', [san, keyUsage(0x84, 2)], /usages of a CA/],
    ['cRLSign', [san, keyUsage(0x82, 1)], /usages of a CA/],
    [
      'names that are not critical and no subject',
      [rawExtension('2.5.29.17', sequence(implicit(6, Buffer.from(workloadId)))), digitalSignature],
      /must be critical/,
    ],
    [
      'serverAuth only',
      [san, digitalSignature, rawExtension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.1')))],
      /both ends/,
    ],
    [
      'OCSPSigning',
      [san, digitalSignature, rawExtension('2.5.29.37', sequence(oid('1.3.6.1.5.5.7.3.9')))],
      /both ends/,
    ],
    [
      'an unknown critical extension',
      [san, digitalSignature, rawExtension('1.2.3.4', nullValue, true)],
      /not understood: 1\.2\.3\.4/,
    ],
    [
      'an empty extendedKeyUsage (CVE-2026-40097)',
      [san, digitalSignature, rawExtension('2.5.29.37', sequence())],
      /not valid DER/,
    ],
  ])('a leaf with %s', (_name, extensions, detail) => {
    refuses([rawLeaf(extensions), issuer.der], detail);
  });

  it('names outside of the constraints of an issuer or of the root', () => {
    const constraints = { permittedUriDomains: ['example.org'], permittedDnsDomains: ['example.org'] };
    const bound = makeIssuer(root, { ca: { pathLength: 0, nameConstraints: constraints } });
    refuses([makeLeaf(bound, { dnsNames: ['example.com'] }), bound.der], /DNS name example\.com outside/);
    refuses(
      [makeLeaf(bound, { dnsNames: ['badexample.org'] }), bound.der],
      /DNS name badexample\.org outside/,
    );
    refuses(
      [makeLeaf(bound, { uris: ['spiffe://sub.example.org/a'] }), bound.der],
      /URI spiffe:\/\/sub\.example\.org\/a outside/,
    );
    const boundRoot = makeRoot({ ca: { nameConstraints: { permittedUriDomains: ['other.org'] } } });
    const below = makeIssuer(boundRoot);
    refuses([makeLeaf(below), below.der], /URI .* outside/, [boundRoot.der]);
  });

  it('a certificate that cannot be read, wherever it stands', () => {
    refuses([Buffer.from('garbage'), issuer.der], /not valid DER/);
    refuses([leaf, Buffer.alloc(0)], /not valid DER/);
    refuses([leaf, issuer.der], /not valid DER/, [Buffer.alloc(5)]);
  });

  it('a root that is not self-signed', () => {
    refuses([leaf], /not self-signed/, [issuer.der]);
  });

  it('an issuer with a key that is not allowed', () => {
    const weak = Buffer.from(issuer.der);
    const at = weak.indexOf(issuer.key.info.spki) + 40;
    weak[at] = (weak[at] ?? 0) ^ 1;
    refuses([leaf, weak], /public key is not a valid|not signed/);
  });

  it('a chain of the most names against the most constraints in under 100 ms (CVE-2025-58187)', () => {
    const domains = Array.from({ length: 200 }, (_, i) => `d${i}.example.org`);
    const bound = makeIssuer(root, {
      ca: { pathLength: 0, nameConstraints: { permittedDnsDomains: domains } },
    });
    const crowded = makeLeaf(bound, {
      dnsNames: Array.from({ length: 999 }, (_, i) => `${i}.d199.example.org`),
      ipAddresses: [],
    });
    expect(bestOfThreeMs(() => validate([crowded, bound.der]))).toBeLessThan(limitMs(100));
    const outside = makeLeaf(bound, {
      dnsNames: Array.from({ length: 999 }, (_, i) => `${i}.x.test`),
      ipAddresses: [],
    });
    expect(bestOfThreeMs(() => refusalOf(() => validate([outside, bound.der])))).toBeLessThan(limitMs(100));
  });
});
