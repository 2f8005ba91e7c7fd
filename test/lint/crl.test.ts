import { describe, expect, it } from 'vitest';
import { crlRules, lintCrl } from '../../src/lint/crl.ts';
import { parseSerial, type Serial } from '../../src/core/serial.ts';
import { algorithmIdentifier } from '../../src/x509/algorithm.ts';
import { buildCrlTbs, type CrlTemplate, encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { explicit, implicit, integer, nullValue, sequence, time } from '../../src/x509/der.ts';
import { makeIssuer, makeRoot, nowSeconds } from '../x509/authority.ts';
import { rawExtension } from '../x509/raw-certificate.ts';

const issuer = makeIssuer(makeRoot());
const template: CrlTemplate = {
  algorithm: 'ecdsa-sha256',
  issuerName: issuer.name,
  thisUpdateSeconds: nowSeconds,
  nextUpdateSeconds: nowSeconds + 86_400,
  authorityKeyId: issuer.key.info.keyId,
  crlNumber: 42n,
  revoked: [],
};
const entry = (serial: string, dateSeconds = nowSeconds): Buffer =>
  encodeRevoked({ serial: parseSerial(serial), dateSeconds, reason: 'keyCompromise' });
const broken = (change: Partial<CrlTemplate>): string[] =>
  lintCrl(buildCrlTbs({ ...template, ...change })).map(({ rule }) => rule);

const url = (text: string): Buffer => explicit(0, explicit(0, implicit(6, Buffer.from(text))));
const userCerts = implicit(1, Buffer.from([0xff]));
const base = [
  rawExtension('2.5.29.35', sequence(implicit(0, Buffer.from(issuer.key.info.keyId, 'hex')))),
  rawExtension('2.5.29.20', integer(42n)),
];

/** Rules that a CRL of raw extensions breaks. */
function brokenBy(...extensions: readonly Buffer[]): string[] {
  return lintCrl(
    sequence(
      integer(1n),
      algorithmIdentifier('ecdsa-sha256'),
      issuer.name,
      time(nowSeconds),
      time(nowSeconds + 1),
      explicit(0, sequence(...extensions)),
    ),
  ).map(({ rule }) => rule);
}

describe('lintCrl', () => {
  it('finds nothing in ours: empty, full, shard', () => {
    expect(broken({})).toEqual([]);
    expect(broken({ revoked: [entry('01'), entry('7f'), entry('0080')] })).toEqual([]);
    expect(broken({ idpUrl: 'http://ca.example.org/crl/a/3.crl', revoked: [entry('01')] })).toEqual([]);
  });

  it('has rules with a name of their own and a citation', () => {
    expect(new Set(crlRules.map(({ name }) => name)).size).toBe(crlRules.length);
    for (const { citation } of crlRules) expect(citation).toMatch(/RFC 5280/);
  });

  it.each<[string, string[], Partial<CrlTemplate>]>([
    ['nextUpdate equal to thisUpdate', ['update-times'], { nextUpdateSeconds: nowSeconds }],
    ['nextUpdate before thisUpdate', ['update-times'], { nextUpdateSeconds: nowSeconds - 1 }],
    ['a short authority key id', ['authority-key-id'], { authorityKeyId: 'abcd' }],
    ['CRL number zero', ['crl-number'], { crlNumber: 0n }],
    ['serials that fall', ['serial-order'], { revoked: [entry('02'), entry('01')] }],
    ['a serial that stands twice', ['serial-order'], { revoked: [entry('01'), entry('01')] }],
    [
      'serials in the order of their bytes, not numbers',
      ['serial-order'],
      { revoked: [entry('0080'), entry('7f')] },
    ],
    ['an entry dated after thisUpdate', ['revocation-dates'], { revoked: [entry('01', nowSeconds + 1)] }],
    ['an IDP by https', ['issuing-distribution-point'], { idpUrl: 'https://ca.example.org/crl/a/3.crl' }],
  ])('%s', (_name, rules, change) => {
    expect(broken(change)).toEqual(rules);
  });

  it.each<[string, string[], Buffer[]]>([
    ['the base', [], base],
    ['no authority key id', ['authority-key-id'], base.slice(1)],
    ['no CRL number', ['crl-number'], base.slice(0, 1)],
    ['a delta below its base', ['crl-number'], [...base, rawExtension('2.5.29.27', integer(43n), true)]],
    [
      'a delta with the number of its base',
      ['crl-number'],
      [...base, rawExtension('2.5.29.27', integer(42n), true)],
    ],
    ['a delta above its base', [], [...base, rawExtension('2.5.29.27', integer(41n), true)]],
    [
      'an IDP that is not critical',
      ['issuing-distribution-point'],
      [...base, rawExtension('2.5.29.28', sequence(url('http://a/b'), userCerts))],
    ],
    [
      'an IDP without URL',
      ['issuing-distribution-point'],
      [...base, rawExtension('2.5.29.28', sequence(userCerts), true)],
    ],
    [
      'an IDP for all certificates',
      ['issuing-distribution-point'],
      [...base, rawExtension('2.5.29.28', sequence(url('http://a/b')), true)],
    ],
    [
      'an indirect CRL',
      ['issuing-distribution-point'],
      [
        ...base,
        rawExtension(
          '2.5.29.28',
          sequence(url('http://a/b'), userCerts, implicit(4, Buffer.from([0xff]))),
          true,
        ),
      ],
    ],
    [
      'an unknown critical extension',
      ['critical-extensions'],
      [...base, rawExtension('1.2.3', nullValue, true)],
    ],
    ['an unknown extension', [], [...base, rawExtension('1.2.3', nullValue)]],
  ])('%s', (_name, rules, extensions) => {
    expect(brokenBy(...extensions)).toEqual(rules);
  });

  it('a reason that is spelt out as unspecified', () => {
    const spelt = sequence(
      integer(1n),
      time(nowSeconds),
      sequence(rawExtension('2.5.29.21', Buffer.from([0x0a, 1, 0]))),
    );
    expect(broken({ revoked: [spelt] })).toEqual(['reasons']);
  });

  it('removeFromCRL on a CRL that is no delta', () => {
    const removal = encodeRevoked({
      serial: parseSerial('01'),
      dateSeconds: nowSeconds,
      reason: 'removeFromCRL',
    });
    expect(broken({ revoked: [removal] })).toEqual(['reasons']);
    const delta = sequence(
      integer(1n),
      algorithmIdentifier('ecdsa-sha256'),
      issuer.name,
      time(nowSeconds),
      time(nowSeconds + 1),
      sequence(removal),
      explicit(0, sequence(...base, rawExtension('2.5.29.27', integer(41n), true))),
    );
    expect(lintCrl(delta)).toEqual([]);
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['garbage', Buffer.from('garbage')],
    [
      'an entry with a serial that is not minimal',
      buildCrlTbs({ ...template, revoked: [Buffer.from(entry('01'))] }).fill(0),
    ],
  ])('what cannot be read is a finding, not a throw: %s', (_name, tbs) => {
    expect(lintCrl(tbs)).toEqual([
      {
        rule: 'strict-der',
        detail: expect.stringMatching(/^not valid DER/) as unknown,
        citation: 'RFC 5280 §5.1, X.690 §10',
      },
    ]);
  });

  it('tells a sorted million apart in one pass', () => {
    const revoked = Array.from({ length: 2000 }, (_, i) =>
      entry(`01${i.toString(16).padStart(8, '0')}` as Serial),
    );
    expect(broken({ revoked })).toEqual([]);
    expect(broken({ revoked: [...revoked.slice(1), ...revoked.slice(0, 1)] })).toEqual(['serial-order']);
  });
});
