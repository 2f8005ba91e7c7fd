import { describe, expect, it } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import {
  certificateRules,
  type CertificateLintContext,
  lintCertificate,
} from '../../src/lint/certificate.ts';
import { buildCertificateTbs, type CertificateTemplate } from '../../src/x509/certificate-tbs.ts';
import { bitString, explicit, implicit, nullValue, octetString, oid, sequence } from '../../src/x509/der.ts';
import { rdnName } from '../../src/x509/name.ts';
import {
  ecKey,
  leafTemplate,
  makeIssuer,
  makeRoot,
  nowMs,
  nowSeconds,
  trustDomain,
  workloadId,
} from '../x509/authority.ts';
import { rawExtension, tbsWith } from '../x509/raw-certificate.ts';

const issuer = makeIssuer(makeRoot());
const key = ecKey();
const issuerNotAfterMs = (nowSeconds + 90 * 86_400) * 1000;
const context: CertificateLintContext = {
  spiffeId: workloadId,
  trustDomain,
  isServer: false,
  issuer: { nameDer: issuer.name, notAfterMs: issuerNotAfterMs, keyId: issuer.key.info.keyId },
};

/** Rules that a template breaks, each once. */
function broken(
  change: Partial<CertificateTemplate>,
  inContext: Partial<CertificateLintContext> = {},
): string[] {
  const tbs = buildCertificateTbs({ ...leafTemplate(issuer, key), ...change });
  return [...new Set(lintCertificate(tbs, { ...context, ...inContext }).map(({ rule }) => rule))];
}

/** Details of one rule for a certificate of raw extensions. */
function detailsOf(rule: string, ...extensions: readonly Buffer[]): string[] {
  return lintCertificate(tbsWith(...extensions), context)
    .filter((finding) => finding.rule === rule)
    .map(({ detail }) => detail);
}

describe('a certificate of the default profile', () => {
  it('breaks no rule', () => {
    expect(broken({})).toEqual([]);
    expect(broken({}, { spiffeId: undefined })).toEqual([]);
    expect(broken({ dnsNames: [], ipAddresses: [] })).toEqual([]);
    expect(broken({ subjectName: rdnName({ commonName: 'orders.example.org' }) })).toEqual([]);
    expect(
      broken({ crlUrls: ['http://ca.example.org/crl/a/3.crl', 'http://ca.example.org/crl/a.crl'] }),
    ).toEqual([]);
    expect(broken({ issuerUrl: undefined })).toEqual([]);
  });

  it("nor does the server's own", () => {
    const server = 'spiffe://example.org/vouch/server';
    expect(broken({ uris: [server] }, { isServer: true, spiffeId: server })).toEqual([]);
  });
});

describe('each rule', () => {
  it('cites where it comes from and has a name of its own', () => {
    const names = certificateRules.map(({ name }) => name);
    expect(new Set(names).size).toBe(names.length);
    for (const { name, citation } of certificateRules) {
      expect(name).toMatch(/^[a-z]+(?:-[a-z]+)*$/);
      expect(citation).toMatch(/RFC|SVID|invariant/);
    }
    const [finding] = lintCertificate(
      buildCertificateTbs({ ...leafTemplate(issuer, key), crlUrls: [] }),
      context,
    );
    expect(finding).toEqual({
      rule: 'crl-distribution-point',
      detail: 'there is no CRL distribution point',
      citation: 'RFC 5280 §4.2.1.13, §8',
    });
  });

  const longDns = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(62)}`;

  it.each<[string, string[], Partial<CertificateTemplate>]>([
    ['a serial of 16 bytes', ['serial'], { serial: '01'.repeat(16) as Serial }],
    ['a serial of 18 bytes', ['serial'], { serial: '01'.repeat(18) as Serial }],
    ['a serial that begins with 00', ['serial'], { serial: `00${'80'.repeat(16)}` as Serial }],
    ['the serial 1', ['serial'], { serial: '01' as Serial }],
    [
      'notAfter before notBefore',
      ['validity'],
      { notBeforeSeconds: nowSeconds, notAfterSeconds: nowSeconds - 1 },
    ],
    ['notAfter a second past the issuer', ['validity'], { notAfterSeconds: issuerNotAfterMs / 1000 + 1 }],
    ['another issuer name', ['issuer-chain'], { issuerName: rdnName({ commonName: 'else' }) }],
    [
      'the same issuer name in another order',
      ['issuer-chain'],
      { issuerName: rdnName({ commonName: 'Vouch', organization: 'example.org issuer 1' }) },
    ],
    ['the name of its issuer', ['issuer-chain', 'subject'], { subjectName: issuer.name }],
    ['CA rights', ['basic-constraints', 'key-usage', 'extended-key-usage'], { ca: {} }],
    [
      'CA rights with a path length',
      ['basic-constraints', 'key-usage', 'extended-key-usage'],
      { ca: { pathLength: 0 } },
    ],
    ['another authority key', ['key-identifiers'], { authorityKeyId: 'ab'.repeat(20) }],
    ['another subject key id', ['subject-public-key'], { subjectKeyId: 'ab'.repeat(20) }],
    [
      "the issuer's own key",
      ['subject-public-key'],
      { spki: issuer.key.info.spki, subjectKeyId: issuer.key.info.keyId },
    ],
    ['no URI', ['spiffe-id'], { uris: [] }],
    ['two URIs (CVE-2022-40716)', ['spiffe-id'], { uris: [workloadId, 'spiffe://example.org/other'] }],
    ['one URI twice', ['subject-alt-name', 'spiffe-id'], { uris: [workloadId, workloadId] }],
    ['another SPIFFE ID than decided', ['spiffe-id'], { uris: ['spiffe://example.org/payments/admin'] }],
    ['a SPIFFE ID that differs in case', ['spiffe-id'], { uris: ['spiffe://example.org/payments/Orders'] }],
    ['a SPIFFE ID of another trust domain', ['spiffe-id'], { uris: ['spiffe://other.org/payments/orders'] }],
    ['a URI that is no SPIFFE ID', ['spiffe-id'], { uris: ['https://example.org/payments/orders'] }],
    ['a SPIFFE ID with a trailing slash', ['spiffe-id'], { uris: ['spiffe://example.org/payments/'] }],
    ['a DNS name twice', ['subject-alt-name'], { dnsNames: ['a.test', 'a.test'] }],
    ['an upper-case DNS name', ['dns-names'], { dnsNames: ['A.test'] }],
    ['a wildcard', ['dns-names'], { dnsNames: ['*.example.org'] }],
    ['a wildcard inside', ['dns-names'], { dnsNames: ['a*.example.org'] }],
    ['two wildcards', ['dns-names'], { dnsNames: ['*.*.test'] }],
    ['an underscore', ['dns-names'], { dnsNames: ['a_b.test'] }],
    ['a trailing dot', ['dns-names'], { dnsNames: ['a.test.'] }],
    ['a leading dot', ['dns-names'], { dnsNames: ['.a.test'] }],
    ['two dots', ['dns-names'], { dnsNames: ['a..test'] }],
    ['a leading hyphen', ['dns-names'], { dnsNames: ['-a.test'] }],
    ['a trailing hyphen', ['dns-names'], { dnsNames: ['a-.test'] }],
    ['a label of 64', ['dns-names'], { dnsNames: [`${'a'.repeat(64)}.test`] }],
    ['254 characters', ['dns-names'], { dnsNames: [longDns] }],
    ['a comma', ['dns-names'], { dnsNames: ['a.test, DNS:evil.test'] }],
    ['a space', ['dns-names'], { dnsNames: ['a test'] }],
    ['an IPv4 address as DNS name', ['dns-names'], { dnsNames: ['10.0.0.1'] }],
    ['a short IPv4 address as DNS name', ['dns-names'], { dnsNames: ['127.1'] }],
    ['an IPv4 address as one number', ['dns-names'], { dnsNames: ['2130706433'] }],
    ['an IPv4 address in hex', ['dns-names'], { dnsNames: ['0x7f000001'] }],
    ['an IPv6 address as DNS name', ['dns-names'], { dnsNames: ['::1'] }],
    ['a URI as DNS name', ['dns-names'], { dnsNames: ['http://a.test'] }],
    ['an e-mail address as DNS name', ['dns-names'], { dnsNames: ['a@b.test'] }],
    ['an empty A-label', ['dns-names'], { dnsNames: ['xn--.test'] }],
    ['an R-LDH label that is no A-label', ['dns-names'], { dnsNames: ['ab--cd.test'] }],
    ['a subject that is no DNS name of it', ['subject'], { subjectName: rdnName({ commonName: 'admin' }) }],
    [
      'a subject that is another than its first DNS name',
      ['subject'],
      { subjectName: rdnName({ commonName: 'b.test' }), dnsNames: ['a.test', 'b.test'] },
    ],
    [
      'more in the subject than its first DNS name',
      ['subject'],
      { subjectName: rdnName({ organization: 'x', commonName: 'a.test' }), dnsNames: ['a.test'] },
    ],
    [
      'a subject without DNS name',
      ['subject'],
      { subjectName: rdnName({ commonName: 'a.test' }), dnsNames: [] },
    ],
    ['no CRL distribution point', ['crl-distribution-point'], { crlUrls: [] }],
    ['a CRL by https', ['crl-distribution-point'], { crlUrls: ['https://ca.example.org/a.crl'] }],
    [
      'a CRL by ldap',
      ['crl-distribution-point'],
      { crlUrls: ['http://ca.example.org/a.crl', 'ldap://ca.example.org/a'] },
    ],
    ['a CRL without host', ['crl-distribution-point'], { crlUrls: ['http:///a.crl'] }],
    ['a CRL with a password', ['crl-distribution-point'], { crlUrls: ['http://a:b@ca.example.org/a.crl'] }],
    ['an issuer by file', ['crl-distribution-point'], { issuerUrl: 'file:///etc/passwd' }],
  ])('%s', (_name, rules, change) => {
    expect(broken(change)).toEqual(rules);
  });

  it.each(['a', 'a.b', 'xn--bcher-kva.example', '1.test', '0x.test', 'a-b.c-d', 'a1', '1a'])(
    'takes the DNS name %s',
    (name) => {
      expect(broken({ dnsNames: [name] })).toEqual([]);
    },
  );

  it('I9: names under /vouch are for the server, and it has no other', () => {
    const reserved = [
      'spiffe://example.org/vouch',
      'spiffe://example.org/vouch/server',
      'spiffe://example.org/vouch/agent/a',
    ];
    for (const uri of reserved)
      expect(broken({ uris: [uri] }, { spiffeId: uri })).toEqual(['reserved-names']);
    expect(broken({ uris: ['spiffe://example.org/vouchers'] }, { spiffeId: undefined })).toEqual([]);
    expect(broken({}, { isServer: true })).toEqual(['reserved-names']);
    expect(
      broken({ uris: ['spiffe://example.org/vouch/agent'] }, { isServer: true, spiffeId: undefined }),
    ).toEqual(['reserved-names']);
  });

  it('the trust domain decides also where the identity is not known, as in the signer', () => {
    expect(broken({ uris: ['spiffe://other.org/a'] }, { spiffeId: undefined })).toEqual(['spiffe-id']);
    expect(broken({ uris: ['spiffe://example.org/a'] }, { spiffeId: undefined })).toEqual([]);
  });

  it('I2: the serial is one byte and sixteen random ones', () => {
    expect(broken({ serial: `7f${'ff'.repeat(16)}` as Serial })).toEqual([]);
    expect(broken({ serial: `01${'00'.repeat(16)}` as Serial })).toEqual([]);
  });
});

describe('certificates that no template of ours makes', () => {
  const san = (critical: boolean, ...names: readonly Buffer[]): Buffer =>
    rawExtension('2.5.29.17', sequence(...names), critical);
  const uri = implicit(6, Buffer.from(workloadId));

  it.each<[string, string, string[], Buffer[]]>([
    ['basic-constraints', 'missing', ['basicConstraints is missing'], [san(true, uri)]],
    [
      'basic-constraints',
      'not critical',
      ['basicConstraints is not critical'],
      [rawExtension('2.5.29.19', sequence())],
    ],
    ['key-usage', 'missing', ['keyUsage is missing'], [san(true, uri)]],
    [
      'key-usage',
      'not critical',
      ['keyUsage is not critical'],
      [rawExtension('2.5.29.15', bitString(Buffer.from([0x80]), 7))],
    ],
    [
      'key-usage',
      'keyEncipherment beside',
      ['a leaf has digitalSignature only'],
      [rawExtension('2.5.29.15', bitString(Buffer.from([0xa0]), 5), true)],
    ],
    [
      'key-usage',
      'keyCertSign beside',
      ['a leaf must not have keyCertSign'],
      [rawExtension('2.5.29.15', bitString(Buffer.from([0x84]), 2), true)],
    ],
    [
      'key-usage',
      'cRLSign beside',
      ['a leaf must not have cRLSign'],
      [rawExtension('2.5.29.15', bitString(Buffer.from([0x82]), 1), true)],
    ],
    [
      'key-usage',
      'without digitalSignature',
      ['digitalSignature is missing', 'a leaf has digitalSignature only'],
      [rawExtension('2.5.29.15', bitString(Buffer.from([0x40]), 6), true)],
    ],
    [
      'extended-key-usage',
      'missing',
      ['extendedKeyUsage is not exactly serverAuth and clientAuth'],
      [san(true, uri)],
    ],
    [
      'extended-key-usage',
      'OCSPSigning beside',
      ['extendedKeyUsage is not exactly serverAuth and clientAuth'],
      [
        rawExtension(
          '2.5.29.37',
          sequence(oid('1.3.6.1.5.5.7.3.1'), oid('1.3.6.1.5.5.7.3.2'), oid('1.3.6.1.5.5.7.3.9')),
        ),
      ],
    ],
    [
      'extended-key-usage',
      'any',
      ['extendedKeyUsage is not exactly serverAuth and clientAuth'],
      [rawExtension('2.5.29.37', sequence(oid('2.5.29.37.0')))],
    ],
    [
      'subject-alt-name',
      'not critical',
      ['the subject is empty and subjectAltName not critical'],
      [san(false, uri)],
    ],
    [
      'subject-alt-name',
      'an e-mail address',
      ['subjectAltName has names other than URI, DNS and IP'],
      [san(true, uri, implicit(1, Buffer.from('a@b')))],
    ],
    [
      'subject-alt-name',
      'a UPN (Certifried)',
      ['subjectAltName has names other than URI, DNS and IP'],
      [san(true, uri, implicit(0, Buffer.alloc(2), true))],
    ],
    [
      'extension-set',
      'an MS application policy (ESC15)',
      ['extensions that no profile writes: 1.3.6.1.4.1.311.21.10'],
      [rawExtension('1.3.6.1.4.1.311.21.10', nullValue)],
    ],
    [
      'extension-set',
      'nameConstraints',
      ['extensions that no profile writes: 2.5.29.30'],
      [rawExtension('2.5.29.30', sequence(explicit(0, sequence(implicit(2, Buffer.from('a'))))), true)],
    ],
    [
      'extension-set',
      'an unknown critical one',
      ['extensions that no profile writes: 1.2.3', 'a critical extension that is not understood'],
      [rawExtension('1.2.3', nullValue, true)],
    ],
    [
      'key-identifiers',
      'missing',
      ["authorityKeyIdentifier is not the issuer's key id", 'subjectKeyIdentifier is missing'],
      [san(true, uri)],
    ],
    [
      'key-identifiers',
      'a foreign one',
      ["authorityKeyIdentifier is not the issuer's key id"],
      [
        rawExtension('2.5.29.14', octetString(Buffer.alloc(20))),
        rawExtension('2.5.29.35', sequence(implicit(0, Buffer.alloc(20)))),
      ],
    ],
  ])('%s: %s', (rule, _name, expected, extensions) => {
    expect(detailsOf(rule, ...extensions)).toEqual(expected);
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['garbage', Buffer.from('garbage')],
    ['an empty subjectAltName', tbsWith(rawExtension('2.5.29.17', sequence()))],
    ['a NUL in a name', tbsWith(san(true, implicit(2, Buffer.from('a\0b'))))],
    ['a megabyte', Buffer.alloc(1_000_000, 0x30)],
  ])('what cannot be read is a finding, not a throw: %s', (_name, tbs) => {
    expect(lintCertificate(tbs, context)).toEqual([
      {
        rule: 'strict-der',
        detail: expect.stringMatching(/^not valid DER/) as unknown,
        citation: 'RFC 5280 §4.1, X.690 §10',
      },
    ]);
  });

  it('a subjectPublicKeyInfo that is none', () => {
    const tbs = buildCertificateTbs({ ...leafTemplate(issuer, key), spki: sequence() });
    expect(lintCertificate(tbs, context).map(({ rule }) => rule)).toEqual(['strict-der']);
  });
});

it('the fixtures are valid now', () => {
  expect(issuerNotAfterMs).toBeGreaterThan(nowMs);
});
