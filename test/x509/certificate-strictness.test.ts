import { describe, expect, it } from 'vitest';
import { algorithmIdentifier } from '../../src/x509/algorithm.ts';
import { parseCertificate, parseTbsCertificate } from '../../src/x509/certificate.ts';
import { assembleSigned } from '../../src/x509/certificate-tbs.ts';
import {
  bitString,
  boolean,
  explicit,
  implicit,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  time,
  tlv,
} from '../../src/x509/der.ts';
import { emptyName, rdnName } from '../../src/x509/name.ts';
import { nowSeconds } from './authority.ts';
import { rawExtension, rawTbs, tbsWith } from './raw-certificate.ts';
import { expectRefusal } from './refusal.ts';

describe('parseTbsCertificate refuses', () => {
  const end = time(nowSeconds);

  it.each([
    ['version 1', rawTbs({ version: undefined, extensions: undefined })],
    ['version 2', rawTbs({ version: explicit(0, integer(1n)) })],
    ['version 4', rawTbs({ version: explicit(0, integer(3n)) })],
    ['an explicit version 1', rawTbs({ version: explicit(0, integer(0n)) })],
    ['two versions', rawTbs({ version: explicit(0, integer(2n), integer(2n)) })],
    ['an empty version', rawTbs({ version: explicit(0) })],
    ['an unknown algorithm', rawTbs({ algorithm: sequence(oid('1.2.3')) })],
    ['an empty issuer', rawTbs({ issuer: emptyName })],
    ['a validity of one time', rawTbs({ validity: sequence(end) })],
    ['a validity of three times', rawTbs({ validity: sequence(end, end, end) })],
    ['an empty validity', rawTbs({ validity: sequence() })],
    [
      'a GeneralizedTime before 2050',
      rawTbs({ validity: sequence(end, tlv(0x18, Buffer.from('20300101000000Z'))) }),
    ],
    [
      'a date that does not exist',
      rawTbs({ validity: sequence(end, tlv(0x17, Buffer.from('300230000000Z'))) }),
    ],
    [
      'a fraction of a second',
      rawTbs({ validity: sequence(end, tlv(0x18, Buffer.from('20510101000000.5Z'))) }),
    ],
    ['a subject that is no name', rawTbs({ subject: sequence(integer(1n)) })],
    ['a key that is an empty SEQUENCE', rawTbs({ spki: sequence() })],
    ['a key without algorithm', rawTbs({ spki: sequence(sequence(), bitString(Buffer.alloc(4))) })],
    ['a key of octets', rawTbs({ spki: sequence(sequence(oid('1.2.3')), octetString(Buffer.alloc(4))) })],
    [
      'a key with two parameters',
      rawTbs({ spki: sequence(sequence(oid('1.2.3'), nullValue, nullValue), bitString(Buffer.alloc(4))) }),
    ],
    [
      'a key with more',
      rawTbs({ spki: sequence(sequence(oid('1.2.3')), bitString(Buffer.alloc(4)), nullValue) }),
    ],
    ['an issuerUniqueID', rawTbs({ between: implicit(1, Buffer.from([0, 1])) })],
    ['a subjectUniqueID', rawTbs({ between: implicit(2, Buffer.from([0, 1])) })],
    ['no extensions', rawTbs({ extensions: undefined })],
    ['empty extensions', rawTbs({ extensions: explicit(3, sequence()) })],
    ['an empty extensions wrapper', rawTbs({ extensions: explicit(3) })],
    [
      'two lists of extensions',
      rawTbs({ extensions: explicit(3, sequence(rawExtension('1.2.3', nullValue)), sequence()) }),
    ],
    ['something behind the extensions', Buffer.concat([rawTbs(), nullValue])],
    [
      'something behind the extensions, inside',
      rawTbs({
        extensions: Buffer.concat([explicit(3, sequence(rawExtension('1.2.3', nullValue))), nullValue]),
      }),
    ],
    ['more than 65,535 bytes', tbsWith(rawExtension('1.2.3', Buffer.alloc(70_000)))],
    [
      'more than 64 extensions',
      tbsWith(...Array.from({ length: 65 }, (_, i) => rawExtension(`1.2.${i}`, nullValue))),
    ],
    ['nothing', Buffer.alloc(0)],
    ['an empty SEQUENCE', sequence()],
  ])('%s', (_name, tbs) => {
    expectRefusal(() => parseTbsCertificate(tbs), 'request-malformed');
  });

  it('takes the same certificate when nothing of that is wrong', () => {
    expect(parseTbsCertificate(rawTbs()).basicConstraints).toEqual({
      critical: true,
      isCa: false,
      pathLength: undefined,
    });
  });

  const san = '2.5.29.17';
  const twice = rawExtension(san, sequence(implicit(2, Buffer.from('a'))));

  it.each([
    ['an extension that stands twice', tbsWith(twice, twice)],
    [
      'an unknown extension that stands twice',
      tbsWith(rawExtension('1.2.3', nullValue), rawExtension('1.2.3', nullValue)),
    ],
    ['critical FALSE spelt out', tbsWith(sequence(oid('1.2.3'), boolean(false), octetString(nullValue)))],
    ['critical of 01', tbsWith(sequence(oid('1.2.3'), Buffer.from('010101', 'hex'), octetString(nullValue)))],
    ['an extension without value', tbsWith(sequence(oid('1.2.3')))],
    [
      'an extension with two values',
      tbsWith(sequence(oid('1.2.3'), octetString(nullValue), octetString(nullValue))),
    ],
    ['an empty extension', tbsWith(sequence())],
    ['an extension value that is no OCTET STRING', tbsWith(sequence(oid('1.2.3'), bitString(nullValue)))],
    ['an empty subjectAltName', tbsWith(rawExtension(san, sequence()))],
    ['a subjectAltName without content', tbsWith(rawExtension(san, Buffer.alloc(0)))],
    [
      'a subjectAltName with trailing data',
      tbsWith(rawExtension(san, Buffer.concat([sequence(implicit(2, Buffer.from('a'))), nullValue]))),
    ],
    ['an empty dNSName', tbsWith(rawExtension(san, sequence(implicit(2, Buffer.alloc(0)))))],
    ['an empty URI', tbsWith(rawExtension(san, sequence(implicit(6, Buffer.alloc(0)))))],
    [
      'a NUL in a dNSName (CVE-2021-44532)',
      tbsWith(rawExtension(san, sequence(implicit(2, Buffer.from('good.test\0.evil.test'))))),
    ],
    ['UTF-8 in a dNSName', tbsWith(rawExtension(san, sequence(implicit(2, Buffer.from('gööd.test')))))],
    ['a line end in a URI', tbsWith(rawExtension(san, sequence(implicit(6, Buffer.from('spiffe://a\n/b')))))],
    ['an IP address of 5 bytes', tbsWith(rawExtension(san, sequence(implicit(7, Buffer.alloc(5)))))],
    ['an IP address of 0 bytes', tbsWith(rawExtension(san, sequence(implicit(7, Buffer.alloc(0)))))],
    ['an IP address with mask', tbsWith(rawExtension(san, sequence(implicit(7, Buffer.alloc(8)))))],
    [
      'a constructed dNSName',
      tbsWith(rawExtension(san, sequence(implicit(2, implicit(2, Buffer.from('a')), true)))),
    ],
    ['a name of type 9', tbsWith(rawExtension(san, sequence(implicit(9, Buffer.from('a')))))],
    ['a name that is a SEQUENCE', tbsWith(rawExtension(san, sequence(sequence())))],
    [
      '1,001 names',
      tbsWith(rawExtension(san, sequence(...Array<Buffer>(1001).fill(implicit(2, Buffer.from('a')))))),
    ],
    [
      'basicConstraints with cA FALSE spelt out',
      tbsWith(rawExtension('2.5.29.19', sequence(boolean(false)), true)),
    ],
    [
      'basicConstraints with a negative path length',
      tbsWith(rawExtension('2.5.29.19', sequence(boolean(true), Buffer.from('0201ff', 'hex')))),
    ],
    [
      'basicConstraints with a path length of 2^40',
      tbsWith(rawExtension('2.5.29.19', sequence(boolean(true), integer(1n << 40n)))),
    ],
    [
      'basicConstraints with more',
      tbsWith(rawExtension('2.5.29.19', sequence(boolean(true), integer(0n), integer(0n)))),
    ],
    ['basicConstraints that is no SEQUENCE', tbsWith(rawExtension('2.5.29.19', nullValue))],
    ['keyUsage without bits', tbsWith(rawExtension('2.5.29.15', bitString(Buffer.alloc(0))))],
    ['keyUsage of zeros', tbsWith(rawExtension('2.5.29.15', bitString(Buffer.from([0]), 7)))],
    ['keyUsage with trailing zeros', tbsWith(rawExtension('2.5.29.15', bitString(Buffer.from([0x80]))))],
    ['keyUsage with bit 9', tbsWith(rawExtension('2.5.29.15', bitString(Buffer.from([0x80, 0x40]), 6)))],
    ['an empty extendedKeyUsage (CVE-2026-40097)', tbsWith(rawExtension('2.5.29.37', sequence()))],
    [
      'an extendedKeyUsage that stands twice',
      tbsWith(rawExtension('2.5.29.37', sequence(oid('1.2.3'), oid('1.2.3')))),
    ],
    ['an extendedKeyUsage that is no OID', tbsWith(rawExtension('2.5.29.37', sequence(nullValue)))],
    ['an empty authorityKeyIdentifier', tbsWith(rawExtension('2.5.29.35', sequence()))],
    ['an empty key id in it', tbsWith(rawExtension('2.5.29.35', sequence(implicit(0, Buffer.alloc(0)))))],
    [
      'an unknown field in authorityKeyIdentifier',
      tbsWith(rawExtension('2.5.29.35', sequence(implicit(5, Buffer.alloc(1))))),
    ],
    ['an empty subjectKeyIdentifier', tbsWith(rawExtension('2.5.29.14', octetString()))],
    ['a subjectKeyIdentifier of 65 bytes', tbsWith(rawExtension('2.5.29.14', octetString(Buffer.alloc(65))))],
    [
      'a key identifier with an issuer that is no name',
      tbsWith(rawExtension('2.5.29.35', sequence(implicit(1, nullValue, true)))),
    ],
    [
      'a key identifier with a negative serial',
      tbsWith(rawExtension('2.5.29.35', sequence(implicit(2, Buffer.from([0xff]))))),
    ],
    [
      'a distribution point with a relative name that is none',
      tbsWith(rawExtension('2.5.29.31', sequence(sequence(explicit(0, explicit(1, nullValue)))))),
    ],
    [
      'a distribution point with a cRLIssuer that is no name',
      tbsWith(rawExtension('2.5.29.31', sequence(sequence(implicit(2, nullValue, true))))),
    ],
    [
      'an access location that is no name',
      tbsWith(rawExtension('1.3.6.1.5.5.7.1.1', sequence(sequence(oid('1.2.3'), nullValue)))),
    ],
    ['empty cRLDistributionPoints', tbsWith(rawExtension('2.5.29.31', sequence()))],
    ['an empty distribution point', tbsWith(rawExtension('2.5.29.31', sequence(sequence())))],
    ['an empty distribution point name', tbsWith(rawExtension('2.5.29.31', sequence(sequence(explicit(0)))))],
    ['an empty fullName', tbsWith(rawExtension('2.5.29.31', sequence(sequence(explicit(0, explicit(0))))))],
    ['empty authorityInfoAccess', tbsWith(rawExtension('1.3.6.1.5.5.7.1.1', sequence()))],
    ['an empty access description', tbsWith(rawExtension('1.3.6.1.5.5.7.1.1', sequence(sequence())))],
    [
      'an access description without location',
      tbsWith(rawExtension('1.3.6.1.5.5.7.1.1', sequence(sequence(oid('1.3.6.1.5.5.7.48.2'))))),
    ],
    [
      '33 extended key usages',
      tbsWith(rawExtension('2.5.29.37', sequence(...Array.from({ length: 33 }, (_, i) => oid(`1.2.${i}`))))),
    ],
    [
      '33 distribution points',
      tbsWith(
        rawExtension(
          '2.5.29.31',
          sequence(
            ...Array<Buffer>(33).fill(
              sequence(explicit(0, explicit(0, implicit(6, Buffer.from('http://a'))))),
            ),
          ),
        ),
      ),
    ],
    [
      '33 issuer URLs',
      tbsWith(
        rawExtension(
          '1.3.6.1.5.5.7.1.1',
          sequence(
            ...Array<Buffer>(33).fill(
              sequence(oid('1.3.6.1.5.5.7.48.2'), implicit(6, Buffer.from('http://a'))),
            ),
          ),
        ),
      ),
    ],
    ['empty nameConstraints', tbsWith(rawExtension('2.5.29.30', sequence(), true))],
    ['empty permittedSubtrees', tbsWith(rawExtension('2.5.29.30', sequence(explicit(0)), true))],
    ['an empty subtree', tbsWith(rawExtension('2.5.29.30', sequence(explicit(0, sequence())), true))],
    [
      'a subtree with a minimum',
      tbsWith(
        rawExtension(
          '2.5.29.30',
          sequence(explicit(0, sequence(implicit(2, Buffer.from('a')), implicit(0, Buffer.from([1]))))),
          true,
        ),
      ),
    ],
    [
      'an IP subtree with a mask full of holes',
      tbsWith(
        rawExtension(
          '2.5.29.30',
          sequence(explicit(0, sequence(implicit(7, Buffer.from('0a000000ff00ff00', 'hex'))))),
          true,
        ),
      ),
    ],
    [
      'an IP subtree without mask',
      tbsWith(rawExtension('2.5.29.30', sequence(explicit(0, sequence(implicit(7, Buffer.alloc(4))))), true)),
    ],
    [
      'a subtree under a tag that no name has',
      tbsWith(
        rawExtension('2.5.29.30', sequence(explicit(0, sequence(implicit(4, Buffer.from('a'))))), true),
      ),
    ],
    [
      '201 subtrees',
      tbsWith(
        rawExtension(
          '2.5.29.30',
          sequence(explicit(0, ...Array<Buffer>(201).fill(sequence(implicit(2, Buffer.from('a')))))),
          true,
        ),
      ),
    ],
  ])('%s', (_name, tbs) => {
    expectRefusal(() => parseTbsCertificate(tbs), 'request-malformed');
  });
});

describe('parseTbsCertificate', () => {
  it('lists critical extensions that it does not process, and passes over others', () => {
    const parsed = parseTbsCertificate(
      tbsWith(rawExtension('1.2.3', nullValue, true), rawExtension('1.2.4', Buffer.from('garbage'))),
    );
    expect(parsed.criticalUnknown).toEqual(['1.2.3']);
    expect(parsed.extensionOids).toEqual(['1.2.3', '1.2.4']);
  });

  it('counts names it does not work with and never looks into them (CVE-2020-1971, CVE-2023-0286, CVE-2022-4203)', () => {
    const odd = [
      implicit(0, Buffer.from('ff'), true),
      implicit(1, Buffer.from('a@b')),
      implicit(3, Buffer.from('1234', 'hex'), true),
      implicit(4, emptyName, true),
      implicit(5, Buffer.alloc(0), true),
      implicit(8, Buffer.from([0x2a])),
    ];
    const parsed = parseTbsCertificate(
      tbsWith(rawExtension('2.5.29.17', sequence(...odd, implicit(2, Buffer.from('a.test'))))),
    );
    expect(parsed).toMatchObject({ otherNames: 6, dnsNames: ['a.test'], uris: [] });
  });

  it('reads what other CAs write: reasons, cRLIssuer, issuer and serial in the key identifier, OCSP', () => {
    const uri = (text: string): Buffer => implicit(6, Buffer.from(text));
    const directory = implicit(4, rdnName({ commonName: 'x' }), true);
    const parsed = parseTbsCertificate(
      tbsWith(
        rawExtension(
          '2.5.29.31',
          sequence(
            sequence(
              explicit(0, explicit(0, uri('http://a/1'), uri('ldap://b'))),
              implicit(1, Buffer.from([6, 0x40])),
            ),
            sequence(
              explicit(0, explicit(1, sequence(oid('2.5.4.3'), tlv(0x0c, Buffer.from('a'))))),
              implicit(2, directory, true),
            ),
          ),
        ),
        rawExtension(
          '2.5.29.35',
          sequence(
            implicit(0, Buffer.from('abcd', 'hex')),
            implicit(1, directory, true),
            implicit(2, Buffer.from([5])),
          ),
        ),
        rawExtension(
          '1.3.6.1.5.5.7.1.1',
          sequence(
            sequence(oid('1.3.6.1.5.5.7.48.1'), uri('http://ocsp')),
            sequence(oid('1.3.6.1.5.5.7.48.2'), uri('http://ca')),
          ),
        ),
      ),
    );
    expect(parsed).toMatchObject({
      crlUrls: ['http://a/1', 'ldap://b'],
      authorityKeyId: 'abcd',
      issuerUrls: ['http://ca'],
    });
  });
});

describe('parseCertificate refuses', () => {
  const tbs = rawTbs();
  const der = assembleSigned(tbs, 'ecdsa-sha256', Buffer.from('3006020101020101', 'hex'));

  it.each([
    [
      'an outer algorithm that differs from the signed one',
      sequence(tbs, algorithmIdentifier('ed25519'), bitString(Buffer.alloc(64))),
    ],
    [
      'a signature with unused bits',
      sequence(tbs, algorithmIdentifier('ecdsa-sha256'), bitString(Buffer.from([0x80]), 7)),
    ],
    ['no signature', sequence(tbs, algorithmIdentifier('ecdsa-sha256'))],
    [
      'two signatures',
      sequence(
        tbs,
        algorithmIdentifier('ecdsa-sha256'),
        bitString(Buffer.alloc(1)),
        bitString(Buffer.alloc(1)),
      ),
    ],
    ['trailing data', Buffer.concat([der, Buffer.alloc(1)])],
    [
      'an indefinite outer length',
      Buffer.concat([Buffer.from([0x30, 0x80]), der.subarray(4), Buffer.alloc(2)]),
    ],
    ['a SET', Buffer.concat([Buffer.from([0x31]), der.subarray(1)])],
    ['PEM', Buffer.from('-----BEGIN CERTIFICATE-----')],
    ['a megabyte', Buffer.alloc(1_000_000, 0x30)],
  ])('%s', (_name, input) => {
    expectRefusal(() => parseCertificate(input), 'request-malformed');
  });

  it('takes it when nothing of that is wrong', () => {
    expect(parseCertificate(der).tbs).toEqual(tbs);
  });
});
