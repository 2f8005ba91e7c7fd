import { describe, expect, it } from 'vitest';
import { algorithmIdentifier } from '../../src/x509/algorithm.ts';
import { parseCrl, parseTbsCrl } from '../../src/x509/crl.ts';
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
import { emptyName } from '../../src/x509/name.ts';
import { makeIssuer, makeRoot, nowSeconds } from './authority.ts';
import { rawExtension } from './raw-certificate.ts';
import { expectRefusal } from './refusal.ts';

const issuer = makeIssuer(makeRoot());
/** A TBSCertList of any fields. */
function rawTbsCrl(
  change: {
    version?: Buffer | undefined;
    issuer?: Buffer;
    thisUpdate?: Buffer;
    nextUpdate?: Buffer | undefined;
    list?: Buffer | undefined;
    extensions?: Buffer | undefined;
  } = {},
): Buffer {
  const parts: (Buffer | undefined)[] = [
    'version' in change ? change.version : integer(1n),
    algorithmIdentifier('ecdsa-sha256'),
    change.issuer ?? issuer.name,
    change.thisUpdate ?? time(nowSeconds),
    'nextUpdate' in change ? change.nextUpdate : time(nowSeconds + 1),
    change.list,
    'extensions' in change
      ? change.extensions
      : explicit(0, sequence(rawExtension('2.5.29.20', integer(1n)))),
  ];
  return sequence(...parts.filter((part): part is Buffer => part !== undefined));
}

const crlWith = (...extensions: readonly Buffer[]): Buffer =>
  rawTbsCrl({ extensions: explicit(0, sequence(...extensions)) });
const listOf = (...entries: readonly Buffer[]): Buffer => rawTbsCrl({ list: sequence(...entries) });
const entryWith = (...extensions: readonly Buffer[]): Buffer =>
  sequence(integer(1n), time(nowSeconds), sequence(...extensions));
const reasonOf = (code: number): Buffer => rawExtension('2.5.29.21', Buffer.from([0x0a, 1, code]));

describe('parseTbsCrl takes', () => {
  it('what other CAs write: an explicit unspecified, an invalidity date, unknown extensions', () => {
    const invalidity = rawExtension('2.5.29.24', tlv(0x18, Buffer.from('20300101000000Z')));
    const crl = parseTbsCrl(
      listOf(
        entryWith(reasonOf(0)),
        entryWith(invalidity, reasonOf(4)),
        entryWith(rawExtension('1.2.3', nullValue)),
      ),
    );
    expect([...crl.revoked()].map(({ reason }) => reason)).toEqual([
      'unspecified',
      'superseded',
      'unspecified',
    ]);
    expect(crl).toMatchObject({ explicitUnspecified: 1, ascending: false, criticalUnknown: [] });
  });

  it('a delta, and an IDP of any kind', () => {
    const idp = sequence(
      implicit(2, Buffer.from([0xff])),
      implicit(3, Buffer.from([1, 0x06])),
      implicit(4, Buffer.from([0xff])),
    );
    const crl = parseTbsCrl(
      crlWith(rawExtension('2.5.29.27', integer(7n), true), rawExtension('2.5.29.28', idp, true)),
    );
    expect(crl).toMatchObject({
      deltaBase: 7n,
      idp: { urls: [], onlyContainsUserCerts: false, other: true, critical: true },
    });
    const relative = sequence(
      explicit(0, explicit(1, sequence(oid('2.5.4.3'), tlv(0x0c, Buffer.from('a'))))),
    );
    expect(parseTbsCrl(crlWith(rawExtension('2.5.29.28', relative))).idp).toMatchObject({
      other: true,
      critical: false,
    });
  });

  it('and reports what it must not be relied on for: critical extensions, of the CRL or of an entry', () => {
    expect(parseTbsCrl(crlWith(rawExtension('1.2.3', nullValue, true))).criticalUnknown).toEqual(['1.2.3']);
    const certificateIssuer = entryWith(
      rawExtension('2.5.29.29', sequence(implicit(4, emptyName, true)), true),
    );
    expect(parseTbsCrl(listOf(certificateIssuer, certificateIssuer)).criticalUnknown).toEqual(['2.5.29.29']);
  });
});

describe('parseTbsCrl refuses', () => {
  const entry = (serial: string, rest: Buffer = time(nowSeconds)): Buffer =>
    listOf(sequence(Buffer.from(serial, 'hex'), rest));

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['an empty SEQUENCE', sequence()],
    ['version 1', rawTbsCrl({ version: undefined })],
    ['version 1 spelt out', rawTbsCrl({ version: integer(0n) })],
    ['version 3', rawTbsCrl({ version: integer(2n) })],
    ['no nextUpdate', rawTbsCrl({ nextUpdate: undefined })],
    [
      'no nextUpdate but entries',
      rawTbsCrl({ nextUpdate: undefined, list: sequence(entryWith(reasonOf(1))) }),
    ],
    ['a time that does not exist', rawTbsCrl({ thisUpdate: tlv(0x17, Buffer.from('300230000000Z')) })],
    ['an empty issuer', rawTbsCrl({ issuer: emptyName })],
    ['empty revokedCertificates', rawTbsCrl({ list: sequence() })],
    ['no extensions', rawTbsCrl({ extensions: undefined })],
    ['empty extensions', rawTbsCrl({ extensions: explicit(0, sequence()) })],
    ['trailing data', Buffer.concat([rawTbsCrl(), nullValue])],
    [
      'something behind the extensions',
      rawTbsCrl({
        extensions: Buffer.concat([explicit(0, sequence(rawExtension('1.2.3', nullValue))), nullValue]),
      }),
    ],
    [
      'an extension that stands twice',
      crlWith(rawExtension('2.5.29.20', integer(1n)), rawExtension('2.5.29.20', integer(2n))),
    ],
    ['a negative CRL number', crlWith(rawExtension('2.5.29.20', Buffer.from('0201ff', 'hex')))],
    ['a CRL number of 21 octets', crlWith(rawExtension('2.5.29.20', tlv(0x02, Buffer.alloc(21, 1))))],
    [
      'a CRL number with trailing data',
      crlWith(rawExtension('2.5.29.20', Buffer.concat([integer(1n), nullValue]))),
    ],
    ['an empty IDP', crlWith(rawExtension('2.5.29.28', sequence(), true))],
    [
      'an IDP with FALSE spelt out',
      crlWith(rawExtension('2.5.29.28', sequence(implicit(1, Buffer.from([0]))), true)),
    ],
    [
      'an IDP with an unknown field',
      crlWith(rawExtension('2.5.29.28', sequence(implicit(6, Buffer.from([0xff]))), true)),
    ],
    [
      'an IDP with its fields out of order',
      crlWith(
        rawExtension(
          '2.5.29.28',
          sequence(implicit(2, Buffer.from([0xff])), implicit(1, Buffer.from([0xff]))),
          true,
        ),
      ),
    ],
    ['an empty IDP name', crlWith(rawExtension('2.5.29.28', sequence(explicit(0)), true))],
    ['an empty authorityKeyIdentifier', crlWith(rawExtension('2.5.29.35', sequence()))],
    ['an empty entry', listOf(sequence())],
    ['an entry that reaches beyond the list', listOf(Buffer.from('30200201', 'hex'))],
    ['an entry that is a SET', listOf(tlv(0x31, integer(1n), time(nowSeconds)))],
    ['an entry without date', listOf(sequence(integer(1n)))],
    ['an entry with an empty serial', entry('0200')],
    ['an entry with a negative serial', entry('0201ff')],
    ['an entry with a serial that is not minimal', entry('02020001')],
    ['an entry with a serial of 21 octets', entry(`0215${'01'.repeat(21)}`)],
    ['an entry with a serial in long form', entry(`028101${'01'}`)],
    ['an entry whose serial is no INTEGER', entry('040101')],
    ['an entry whose serial runs into the next', entry('021f01')],
    ['an entry with a date that does not exist', entry('020101', tlv(0x17, Buffer.from('301332000000Z')))],
    ['an entry with a date that is cut', entry('020101', Buffer.from('170d3330', 'hex'))],
    [
      'an entry with a GeneralizedTime before 2050',
      entry('020101', tlv(0x18, Buffer.from('20300101000000Z'))),
    ],
    ['an entry with empty extensions', listOf(entryWith())],
    [
      'an entry with something behind its extensions',
      listOf(sequence(integer(1n), time(nowSeconds), sequence(reasonOf(1)), nullValue)),
    ],
    ['an entry with two reasons', listOf(entryWith(reasonOf(1), reasonOf(1)))],
    ['reason 7', listOf(entryWith(reasonOf(7)))],
    ['reason 11', listOf(entryWith(reasonOf(11)))],
    ['reason 255', listOf(entryWith(reasonOf(255)))],
    ['a reason in two bytes', listOf(entryWith(rawExtension('2.5.29.21', Buffer.from('0a020001', 'hex'))))],
    ['a reason that is an INTEGER', listOf(entryWith(rawExtension('2.5.29.21', integer(1n))))],
    [
      'a reason with trailing data',
      listOf(entryWith(rawExtension('2.5.29.21', Buffer.from('0a01010500', 'hex')))),
    ],
  ])('%s', (_name, tbs) => {
    expectRefusal(() => parseTbsCrl(tbs), 'request-malformed');
  });
});

describe('parseCrl refuses', () => {
  const tbs = rawTbsCrl();

  it.each([
    ['another outer algorithm', sequence(tbs, algorithmIdentifier('ed25519'), bitString(Buffer.alloc(64)))],
    ['no signature', sequence(tbs, algorithmIdentifier('ecdsa-sha256'))],
    [
      'trailing data',
      Buffer.concat([
        sequence(tbs, algorithmIdentifier('ecdsa-sha256'), bitString(Buffer.alloc(8))),
        nullValue,
      ]),
    ],
    [
      'more than two members',
      sequence(tbs, algorithmIdentifier('ecdsa-sha256'), bitString(Buffer.alloc(8)), nullValue),
    ],
    ['a bare TBSCertList', tbs],
    ['octets', octetString(tbs)],
    ['a boolean', boolean(true)],
  ])('%s', (_name, der) => {
    expectRefusal(() => parseCrl(der), 'request-malformed');
  });
});
