import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { explicit, integer, nullValue, octetString, oid, sequence, set, tlv } from '../../src/x509/der.ts';
import { checkDer, DerReader } from '../../src/x509/der-reader.ts';
import { expectRefusal, refusalOf } from './refusal.ts';

const bytes = (text: string): Buffer => Buffer.from(text.replaceAll(' ', ''), 'hex');

describe('checkDer takes', () => {
  it.each([
    ['a null', '0500'],
    ['an empty sequence', '3000'],
    ['a negative integer', '0201ff'],
    ['an integer that needs its sign byte', '02020080'],
    ['a long form length', `0481 80 ${'00'.repeat(128)}`],
    ['both booleans', '3006 010100 0101ff'],
    ['an empty bit string', '030100'],
    ['unused bits that are zero', '03020780'],
  ])('%s', (_name, text) => {
    expect(() => checkDer(bytes(text))).not.toThrow();
  });
});

describe('checkDer refuses', () => {
  it.each([
    ['nothing', '', /empty/],
    ['half a header', '30', /cut short/],
    ['a length beyond the end', '3001', /longer than what contains it/],
    ['an inner length beyond its parent', '3003 0402 00', /longer than what contains it/],
    ['an inner element that overlaps the next', '3005 3003 0402 0102', /longer than what contains it/],
    ['an indefinite length', '3080 0500 0000', /indefinite/],
    ['a length of more than four bytes', '3085 0000000002 0500', /does not fit/],
    ['a length field that is cut', '3082 01', /does not fit/],
    ['a length of 2^32 - 1', '3084 ffffffff', /longer than what contains it/],
    ['a long form for a short length', '3081 02 0500', /not minimal/],
    ['a leading zero in a length', '3082 0080' + '0500'.repeat(64), /not minimal/],
    ['length bytes ff', '30ff', /does not fit/],
    ['a tag of several bytes', '1f8101 00', /several bytes/],
    ['a constructed tag of several bytes', 'bf8101 00', /several bytes/],
    ['trailing data', '0500 0500', /trailing data/],
    ['trailing zeros', '0500 00', /trailing data/],
    ['a boolean of 01', '010101', /BOOLEAN/],
    ['a boolean of two bytes', '01020000', /BOOLEAN/],
    ['an empty boolean', '0100', /BOOLEAN/],
    ['an empty integer', '0200', /INTEGER/],
    ['an integer with a needless zero', '02020001', /INTEGER/],
    ['an integer with a needless ff', '0202ff80', /INTEGER/],
    ['an enumerated that is not minimal', '0a020001', /INTEGER/],
    ['a null with content', '050100', /NULL/],
    ['a bit string without its count', '0300', /unused bits/],
    ['a bit string with 8 unused bits', '03020800', /unused bits/],
    ['an empty bit string with unused bits', '030101', /unused bits/],
    ['unused bits that are set', '03020781', /unused bits/],
    ['an empty OID', '0600', /OID/],
    ['an OID that begins with 80', '06028001', /OID/],
    ['an OID that is cut', '06022a86', /OID/],
    ['a constructed octet string', '2404 0402 0102', /constructed/],
    ['a constructed bit string', '2303 0301 00', /constructed/],
    ['a primitive sequence', '1000', /never primitive/],
    ['a primitive set', '1100', /never primitive/],
    ['end of contents', '0000', /never primitive/],
  ])('%s', (_name, text, detail) => {
    expectRefusal(() => checkDer(bytes(text)), 'request-malformed', detail);
  });

  it('nesting deeper than 16, at any size, without recursion (CVE-2025-66031)', () => {
    const nested = (depth: number): Buffer => {
      let inner: Buffer = nullValue;
      for (let i = 0; i < depth; i++) inner = sequence(inner);
      return inner;
    };
    expect(() => checkDer(nested(16))).not.toThrow();
    expectRefusal(() => checkDer(nested(17)), 'request-malformed', /deeper than 16/);
    expectRefusal(() => checkDer(nested(5000)), 'request-malformed', /deeper than 16/);
  });

  it('more than 2,000 elements (CVE-2025-58185)', () => {
    expect(() => checkDer(sequence(...Array<Buffer>(1999).fill(nullValue)))).not.toThrow();
    expectRefusal(
      () => checkDer(sequence(...Array<Buffer>(2000).fill(nullValue))),
      'request-malformed',
      /more than 2000/,
    );
    expectRefusal(
      () => checkDer(sequence(Buffer.concat(Array<Buffer>(500_000).fill(nullValue)))),
      'request-malformed',
      /more than 2000/,
    );
  });

  it('anything but DER with a VouchError, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (input) => {
        try {
          checkDer(Buffer.from(input));
        } catch (error) {
          expect(error).toBeInstanceOf(VouchError);
        }
      }),
      { numRuns: 3000 },
    );
  });
});

describe('DerReader', () => {
  it('never reads beyond the element it is inside', () => {
    const inner = new DerReader(sequence(sequence(integer(1n)), integer(2n)))
      .enter(0x30, 'outer')
      .enter(0x30, 'inner');
    expect(inner.small('one')).toBe(1);
    expect(inner.done).toBe(true);
    expect(inner.tag).toBe(-1);
    expectRefusal(() => inner.small('two'), 'request-malformed', /two is missing/);
  });

  it.each([
    ['beyond the input', '040501'],
    ['beyond its parent', '3003 0405 01 020304'],
  ])('refuses an element that reaches %s', (_name, text) => {
    const reader = new DerReader(bytes(text));
    const inside = reader.tag === 0x30 ? reader.enter(0x30, 'parent') : reader;
    expectRefusal(
      () => inside.content(0x04, 'value'),
      'request-malformed',
      /value is longer than what contains it/,
    );
  });

  it('names what it misses and where', () => {
    expect(refusalOf(() => new DerReader(nullValue).enter(0x30, 'validity')).detail).toBe(
      'not valid DER: validity has another tag than expected (byte 0)',
    );
  });

  it('refuses what stands behind the known elements', () => {
    const reader = new DerReader(sequence(integer(1n), integer(2n))).enter(0x30, 'pair');
    reader.small('first');
    expectRefusal(() => reader.finish('pair'), 'request-malformed', /unexpected element in pair/);
  });

  it('refuses an empty content where the standard has SIZE (1..MAX)', () => {
    expectRefusal(
      () => new DerReader(sequence()).enterFilled(0x30, 'names'),
      'request-malformed',
      /names is empty/,
    );
  });

  it.each([
    ['negative', '0201ff', /negative/],
    ['not minimal', '02020001', /not minimal/],
    ['empty', '0200', /not minimal/],
    ['too long', `0205${'7f'.repeat(5)}`, /longer than 4 bytes/],
    ['above 2^31 with its sign byte', '02050080000000', /longer than 4 bytes/],
    ['a boolean', '0101ff', /another tag/],
  ])('refuses an unsigned integer that is %s', (_name, text, detail) => {
    expectRefusal(() => new DerReader(bytes(text)).small('number'), 'request-malformed', detail);
  });

  it.each([
    ['not TRUE', '010100'],
    ['TRUE in another form', '010101'],
    ['empty', '0100'],
    ['two bytes', '0102ffff'],
  ])('refuses a DEFAULT FALSE that is %s', (_name, text) => {
    expectRefusal(() => new DerReader(bytes(text)).trueOnly('critical'), 'request-malformed', /one DER form/);
  });

  it.each([
    ['03020780', 0x8000],
    ['03020106', 0x0600],
    ['0303070080', 0x0080],
    ['03020001', 0x0100],
  ])('reads the named bits %s', (text, expected) => {
    expect(new DerReader(bytes(text)).namedBits('bits')).toBe(expected);
  });

  it.each([
    ['no bits', '030100'],
    ['no count', '0300'],
    ['all zero', '03020700'],
    ['trailing zero bits', '03020080'],
    ['a trailing zero byte', '0303008000'],
    ['unused bits set', '030207c0'],
    ['nine unused bits', '03020980'],
    ['too many bits', '030400010101'],
  ])('refuses named bits with %s', (_name, text) => {
    expectRefusal(
      () => new DerReader(bytes(text)).namedBits('bits'),
      'request-malformed',
      /list of bits|one DER form/,
    );
  });

  it.each([
    '0.0',
    '1.39.7',
    '2.5.29.17',
    '2.999.1',
    '1.2.840.113549.1.1.11',
    '2.16.840.1.101.3.4.2.1',
    '1.3.9007199254740991',
  ])('reads the OID %s back', (text) => {
    expect(new DerReader(oid(text)).oid('oid')).toBe(text);
  });

  it.each([
    ['a leading 80', '06032a8001', /not minimal/],
    ['a cut arc', '06022a86', /cut short/],
    ['nothing', '0600', /cut short/],
    ['an arc above 2^53 (CVE-2025-66030)', `060a2a${'ff'.repeat(8)}7f`, /above 2\^53/],
    ['more than 64 bytes (CVE-2023-2650)', `0681ff${'81'.repeat(254)}01`, /longer than 64/],
  ])('refuses an OID with %s', (_name, text, detail) => {
    expectRefusal(() => new DerReader(bytes(text)).oid('oid'), 'request-malformed', detail);
  });

  it('reads an OID that differs from a known one by a wrapped arc as another (CVE-2025-66030)', () => {
    const wrapped = tlv(0x06, Buffer.from([0x55, 0x1d, 0x90, 0x80, 0x80, 0x80, 0x13]));
    expect(new DerReader(wrapped).oid('oid')).toBe('2.5.29.4294967315');
  });

  it.each(['good\0evil', 'a\nb', 'a\x7f', 'ü', 'a\x80'])('refuses %j as text', (text) => {
    expectRefusal(
      () => new DerReader(tlv(0x16, Buffer.from(text, 'latin1'))).ascii(0x16, 'name'),
      'request-malformed',
      /printable ASCII/,
    );
  });

  it('refuses key bits with unused ones', () => {
    expectRefusal(
      () => new DerReader(bytes('03020780')).octetBits('key'),
      'request-malformed',
      /whole bytes/,
    );
    expectRefusal(() => new DerReader(bytes('0300')).octetBits('key'), 'request-malformed', /whole bytes/);
  });

  it('gives views, not copies', () => {
    const input = octetString(Buffer.from([1, 2, 3]));
    const content = new DerReader(input).content(0x04, 'value');
    input[3] = 9;
    expect([...content]).toEqual([1, 9, 3]);
  });

  it('walks a whole set', () => {
    const reader = new DerReader(set(explicit(0, integer(7n)), integer(3n))).enter(0x31, 'set');
    const found: number[] = [];
    while (!reader.done) found.push(reader.skip('member'));
    expect(found).toEqual([0x02, 0xa0]);
  });
});
