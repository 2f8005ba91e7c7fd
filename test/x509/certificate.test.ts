import 'reflect-metadata';
import { X509Certificate } from 'node:crypto';
import * as peculiar from '@peculiar/x509';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseSerial, type Serial } from '../../src/core/serial.ts';
import { type ParsedCertificate, parseCertificate, parseTbsCertificate } from '../../src/x509/certificate.ts';
import { buildCertificateTbs } from '../../src/x509/certificate-tbs.ts';
import { implicit, integer, oid, sequence, set, tlv } from '../../src/x509/der.ts';
import { emptyName, rdnName } from '../../src/x509/name.ts';
import {
  ecKey,
  ed25519Key,
  leafTemplate,
  makeIssuer,
  makeLeaf,
  makeRoot,
  rsaKey,
  signed,
  workloadId,
} from './authority.ts';
import { rawExtension, rawTbs, tbsWith } from './raw-certificate.ts';
import { bestOfThreeMicros, bestOfThreeMs, limitMs } from '../support/limits.ts';
import { expectRefusal, refusalOf } from './refusal.ts';

const root = makeRoot();
const issuer = makeIssuer(root);
const leafKey = ecKey();

describe('a workload certificate', () => {
  const template = leafTemplate(issuer, leafKey);
  const der = signed(buildCertificateTbs(template), issuer.key);
  const parsed = parseCertificate(der);

  it('reads back as it was written', () => {
    expect(parsed).toMatchObject({
      serial: template.serial,
      algorithm: 'ecdsa-sha256',
      issuerName: issuer.name,
      subjectName: emptyName,
      notBeforeMs: template.notBeforeSeconds * 1000,
      notAfterMs: template.notAfterSeconds * 1000,
      spki: leafKey.info.spki,
      uris: [workloadId],
      dnsNames: ['orders.example.org'],
      ipAddresses: ['192.0.2.7', '2001:db8::7'],
      otherNames: 0,
      sanCritical: true,
      basicConstraints: { critical: true, isCa: false, pathLength: undefined },
      keyUsage: {
        critical: true,
        digitalSignature: true,
        keyCertSign: false,
        cRLSign: false,
        keyEncipherment: false,
      },
      extendedKeyUsage: ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'],
      authorityKeyId: issuer.key.info.keyId,
      subjectKeyId: leafKey.info.keyId,
      crlUrls: template.crlUrls,
      issuerUrls: [template.issuerUrl],
      nameConstraints: undefined,
      criticalUnknown: [],
    });
    expect(parsed.extensionOids).toHaveLength(8);
    expect(parsed.tbs).toEqual(buildCertificateTbs(template));
    expect(parseTbsCertificate(parsed.tbs).serial).toBe(template.serial);
  });

  it('reads the same to node:crypto', () => {
    const other = new X509Certificate(der);
    expect(other.serialNumber.toLowerCase()).toBe(template.serial);
    expect(other.subject).toBe(undefined);
    expect(other.issuer).toBe('O=Vouch\nCN=example.org issuer 1');
    expect(other.subjectAltName).toBe(
      `URI:${workloadId}, DNS:orders.example.org, IP Address:192.0.2.7, IP Address:2001:DB8:0:0:0:0:0:7`,
    );
    expect(other.infoAccess).toBe(`CA Issuers - URI:${template.issuerUrl}`);
    expect(other.ca).toBe(false);
    expect(other.validFromDate.getTime()).toBe(parsed.notBeforeMs);
    expect(other.validToDate.getTime()).toBe(parsed.notAfterMs);
    expect(other.verify(issuer.key.info.key)).toBe(true);
    expect(other.checkIssued(new X509Certificate(issuer.der))).toBe(true);
  });

  it('reads the same to @peculiar/x509', () => {
    const other = new peculiar.X509Certificate(der);
    expect(other.serialNumber).toBe(template.serial);
    expect(other.getExtension(peculiar.SubjectAlternativeNameExtension)?.names.toJSON()).toEqual([
      { type: 'url', value: workloadId },
      { type: 'dns', value: 'orders.example.org' },
      { type: 'ip', value: '192.0.2.7' },
      { type: 'ip', value: '2001:db8::7' },
    ]);
    expect(other.getExtension(peculiar.SubjectAlternativeNameExtension)?.critical).toBe(true);
    expect(other.getExtension(peculiar.BasicConstraintsExtension)).toMatchObject({
      critical: true,
      ca: false,
    });
    expect(other.getExtension(peculiar.KeyUsagesExtension)).toMatchObject({
      critical: true,
      usages: peculiar.KeyUsageFlags.digitalSignature,
    });
    expect(other.getExtension(peculiar.AuthorityKeyIdentifierExtension)?.keyId).toBe(issuer.key.info.keyId);
    expect(other.getExtension(peculiar.SubjectKeyIdentifierExtension)?.keyId).toBe(leafKey.info.keyId);
    expect(other.extensions.map((extension) => extension.type).sort()).toEqual(
      [...parsed.extensionOids].sort(),
    );
    expect(Buffer.from(other.rawData)).toEqual(der);
  });

  it('has a subjectAltName that is critical only without a subject', () => {
    const named = parseCertificate(
      makeLeaf(issuer, { subjectName: rdnName({ commonName: 'orders.example.org' }) }),
    );
    expect(named.sanCritical).toBe(false);
  });
});

describe('a CA certificate', () => {
  it('has CA rights, a path length and name constraints, to all readers', () => {
    const constrained = makeIssuer(root, {
      ca: {
        pathLength: 0,
        nameConstraints: { permittedUriDomains: ['example.org'], permittedDnsDomains: ['example.org'] },
      },
    });
    const parsed = parseCertificate(constrained.der);
    expect(parsed.basicConstraints).toEqual({ critical: true, isCa: true, pathLength: 0 });
    expect(parsed.keyUsage).toMatchObject({
      critical: true,
      keyCertSign: true,
      cRLSign: true,
      digitalSignature: false,
    });
    expect(parsed.extendedKeyUsage).toBeUndefined();
    expect(parsed.nameConstraints).toEqual({
      critical: true,
      permitted: { uriDomains: ['example.org'], dnsDomains: ['example.org'], ipRanges: [], others: 0 },
      excluded: { uriDomains: [], dnsDomains: [], ipRanges: [], others: 0 },
    });
    const other = new peculiar.X509Certificate(constrained.der);
    expect(other.getExtension(peculiar.BasicConstraintsExtension)).toMatchObject({
      critical: true,
      ca: true,
      pathLength: 0,
    });
    expect(new X509Certificate(constrained.der).ca).toBe(true);
    expect(other.getExtension('2.5.29.30')?.critical).toBe(true);
  });

  it.each([undefined, 0, 1, 127, 128, 300])('has the path length %s', (pathLength) => {
    expect(parseCertificate(makeIssuer(root, { ca: { pathLength } }).der).basicConstraints?.pathLength).toBe(
      pathLength,
    );
  });

  it.each([
    ['P-256', ecKey('P-256')],
    ['P-384', ecKey('P-384')],
    ['RSA', rsaKey()],
    ['Ed25519', ed25519Key()],
  ])('signs with %s', (_name, key) => {
    const authority = makeRoot({}, key);
    const leaf = makeLeaf(authority);
    expect(new X509Certificate(leaf).verify(authority.key.info.key)).toBe(true);
    expect(parseCertificate(leaf).algorithm).toBe(key.algorithm);
  });
});

describe('serials (I2)', () => {
  it.each([
    ['01', '01'],
    ['7f', '7f'],
    ['0080', '0080'],
    ['00ff', '00ff'],
    [`01${'00'.repeat(16)}`, `01${'00'.repeat(16)}`],
    [`7f${'ff'.repeat(19)}`, `7f${'ff'.repeat(19)}`],
  ])('%s is written and read as it is, also by node:crypto', (text, expected) => {
    const der = makeLeaf(issuer, { serial: parseSerial(text) });
    expect(parseCertificate(der).serial).toBe(expected);
    expect(BigInt(`0x${new X509Certificate(der).serialNumber}`)).toBe(BigInt(`0x${expected}`));
  });

  it.each([
    ['zero', integer(0n), /zero/],
    ['negative', Buffer.from('0201ff', 'hex'), /negative/],
    ['with its top bit set', Buffer.from(`0210${'80'.repeat(16)}`, 'hex'), /negative/],
    ['not minimal', Buffer.from('02020001', 'hex'), /not minimal/],
    ['21 octets long', Buffer.from(`0215${'01'.repeat(21)}`, 'hex'), /longer than 20/],
    ['20 octets and a sign byte', Buffer.from(`021500${'ff'.repeat(20)}`, 'hex'), /longer than 20/],
    ['empty', Buffer.from('0200', 'hex'), /not minimal/],
    ['100 KB long', tlv(0x02, Buffer.alloc(60_000, 1)), /longer than 20/],
  ])('refuses one that is %s', (_name, serial, detail) => {
    expectRefusal(() => parseTbsCertificate(rawTbs({ serial })), 'request-malformed', detail);
  });

  it('asserts that what it writes is minimal', () => {
    expect(() => buildCertificateTbs({ ...leafTemplate(issuer, leafKey), serial: '0001' as Serial })).toThrow(
      /assertion/,
    );
  });
});

describe('validity', () => {
  it.each([
    ['2049-12-31T23:59:59Z', '2050-01-01T00:00:00Z'],
    ['2050-01-01T00:00:00Z', '9999-12-31T23:59:59Z'],
    ['1950-01-01T00:00:00Z', '1970-01-01T00:00:00Z'],
  ])('from %s to %s, also to node:crypto', (from, to) => {
    const der = makeLeaf(issuer, {
      notBeforeSeconds: Date.parse(from) / 1000,
      notAfterSeconds: Date.parse(to) / 1000,
    });
    expect(parseCertificate(der)).toMatchObject({
      notBeforeMs: Date.parse(from),
      notAfterMs: Date.parse(to),
    });
    expect(new X509Certificate(der).validFromDate.toISOString()).toBe(new Date(from).toISOString());
    expect(new X509Certificate(der).validToDate.toISOString()).toBe(new Date(to).toISOString());
  });
});

describe('any template', () => {
  const names = fc.record({
    uris: fc
      .array(fc.webUrl(), { maxLength: 4 })
      .map((uris) => uris.filter((uri) => /^[\x21-\x7e]+$/.test(uri))),
    dnsNames: fc.array(fc.domain(), { maxLength: 4 }),
    ipAddresses: fc.array(fc.oneof(fc.ipV4(), fc.ipV6()), { maxLength: 4 }),
    notBeforeSeconds: fc.integer({ min: Date.UTC(1950, 0, 1) / 1000, max: Date.UTC(9999, 11, 31) / 1000 }),
    notAfterSeconds: fc.integer({ min: Date.UTC(1950, 0, 1) / 1000, max: Date.UTC(9999, 11, 31) / 1000 }),
    pathLength: fc.option(fc.integer({ min: 0, max: 2 ** 31 - 1 }), { nil: undefined }),
    isCa: fc.boolean(),
  });

  it('round trips, and node:crypto reads what we wrote', () => {
    fc.assert(
      fc.property(names, ({ isCa, pathLength, ...change }) => {
        const template = {
          ...leafTemplate(issuer, leafKey),
          ...change,
          ...(isCa ? { ca: { pathLength } } : {}),
        };
        const parsed: ParsedCertificate = parseCertificate(signed(buildCertificateTbs(template), issuer.key));
        expect(parsed).toMatchObject({
          uris: change.uris,
          dnsNames: change.dnsNames,
          notBeforeMs: change.notBeforeSeconds * 1000,
          notAfterMs: change.notAfterSeconds * 1000,
          basicConstraints: { isCa, pathLength: isCa ? pathLength : undefined },
        });
        expect(parsed.ipAddresses).toHaveLength(change.ipAddresses.length);
        expect(new X509Certificate(parsed.der).ca).toBe(isCa);
      }),
      { numRuns: 150 },
    );
  });
});

describe('speed', () => {
  const template = leafTemplate(issuer, leafKey);
  const tbs = buildCertificateTbs(template);
  it('builds in at most 60 µs', () => {
    expect(bestOfThreeMicros(() => buildCertificateTbs(template))).toBeLessThan(limitMs(60));
  });

  it('reads in at most 60 µs', () => {
    expect(bestOfThreeMicros(() => parseTbsCertificate(tbs))).toBeLessThan(limitMs(60));
  });

  it('answers the costliest names in under 100 ms', () => {
    const many = sequence(...Array.from({ length: 10_000 }, () => implicit(2, Buffer.from('a.b'))));
    const huge = tbsWith(rawExtension('2.5.29.17', many));
    expect(bestOfThreeMs(() => refusalOf(() => parseTbsCertificate(huge)))).toBeLessThan(limitMs(100));
  });

  it('refuses the set of a name in which a thousand attributes stand, as any other', () => {
    const attributes = Array.from({ length: 1000 }, () =>
      sequence(oid('2.5.4.3'), tlv(0x0c, Buffer.from('a'))),
    );
    const subject = sequence(set(...attributes));
    expect(bestOfThreeMs(() => refusalOf(() => parseTbsCertificate(rawTbs({ subject }))))).toBeLessThan(
      limitMs(100),
    );
  });
});
