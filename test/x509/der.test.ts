import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bitString,
  boolean,
  explicit,
  generalizedTime,
  ia5String,
  implicit,
  integer,
  nullValue,
  octetString,
  oid,
  sequence,
  set,
  time,
  tlv,
  utf8String,
} from '../../src/x509/der.ts';
import { DerReader } from '../../src/x509/der-reader.ts';

const hex = (bytes: Buffer): string => bytes.toString('hex');
const seconds = (text: string): number => Date.parse(text) / 1000;

describe('DER writer', () => {
  it.each([
    ['integer 0', integer(0n), '020100'],
    ['integer 127', integer(127n), '02017f'],
    ['integer 128 gets a sign byte', integer(128n), '02020080'],
    ['integer 256', integer(256n), '02020100'],
    ['integer of 2^64', integer(1n << 64n), '0209010000000000000000'],
    ['integer from content', integer(Buffer.from('00ff', 'hex')), '020200ff'],
    ['boolean true', boolean(true), '0101ff'],
    ['boolean false', boolean(false), '010100'],
    ['null', nullValue, '0500'],
    ['octet string', octetString(Buffer.from([1, 2])), '04020102'],
    ['bit string', bitString(Buffer.from([0x80]), 7), '03020780'],
    ['utf8', utf8String('ü'), '0c02c3bc'],
    ['ia5', ia5String('a'), '160161'],
    ['explicit', explicit(3, boolean(true)), 'a3030101ff'],
    ['implicit primitive', implicit(6, Buffer.from('x')), '860178'],
    ['implicit constructed', implicit(0, boolean(true), true), 'a0030101ff'],
    ['empty sequence', sequence(), '3000'],
    ['oid', oid('1.2.840.113549.1.1.11'), '06092a864886f70d01010b'],
    ['oid with a first arc of 2 and a large second', oid('2.999.3'), '0603883703'],
    ['oid with an arc above 2^32', oid('1.3.4294967297'), '06062b9080808001'],
  ])('%s', (_name, actual, expected) => {
    expect(hex(actual)).toBe(expected);
  });

  it('orders SET OF by its encodings', () => {
    expect(hex(set(integer(5n), boolean(true), integer(3n)))).toBe(`3109${'0101ff'}${'020103'}${'020105'}`);
  });

  it.each([0, 1, 127, 128, 255, 256, 65_535, 65_536, 16_777_216])(
    'writes minimal lengths of %i bytes that the reader takes',
    (size) => {
      const encoded = octetString(Buffer.alloc(size));
      expect(new DerReader(encoded).content(0x04, 'value').length).toBe(size);
    },
  );

  it('asserts what no caller may ask for', () => {
    expect(() => integer(-1n)).toThrow(/assertion/);
    expect(() => integer(Buffer.from('0001', 'hex'))).toThrow(/assertion/);
    expect(() => integer(Buffer.alloc(0))).toThrow(/assertion/);
    expect(() => ia5String('good\0evil')).toThrow(/assertion/);
    expect(() => ia5String('ü')).toThrow(/assertion/);
    expect(() => oid('1')).toThrow(/assertion/);
    expect(() => oid('3.x')).toThrow(/assertion/);
    expect(() => time(1.5)).toThrow(/assertion/);
    expect(() => time(seconds('1949-12-31T23:59:59Z'))).toThrow(/assertion/);
    expect(() => time(seconds('9999-12-31T23:59:59Z') + 1)).toThrow(/assertion/);
  });

  it('writes integers that the reader gives back', () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 1n << 159n }), (value) => {
        const content = new DerReader(integer(value)).unsigned(21, 'value');
        return BigInt(`0x${content.toString('hex')}`) === value;
      }),
    );
  });
});

describe('times', () => {
  it.each([
    ['1950-01-01T00:00:00Z', '170d3530303130313030303030305a'],
    ['1969-12-31T23:59:59Z', '170d3639313233313233353935395a'],
    ['1970-01-01T00:00:00Z', '170d3730303130313030303030305a'],
    ['2000-02-29T12:34:56Z', '170d3030303232393132333435365a'],
    ['2049-12-31T23:59:59Z', '170d3439313233313233353935395a'],
    ['2050-01-01T00:00:00Z', '180f32303530303130313030303030305a'],
    ['2100-02-28T23:59:59Z', '180f32313030303232383233353935395a'],
    ['9999-12-31T23:59:59Z', '180f39393939313233313233353935395a'],
  ])('%s: UTCTime through 2049, GeneralizedTime from 2050', (text, expected) => {
    expect(hex(time(seconds(text)))).toBe(expected);
    expect(new DerReader(time(seconds(text))).time('time')).toBe(seconds(text));
  });

  it('writes GeneralizedTime for OCSP at any date', () => {
    expect(generalizedTime(seconds('2030-01-02T03:04:05Z')).subarray(2).toString()).toBe('20300102030405Z');
  });

  it('agrees with Date for every second of RFC 5280, both ways', () => {
    const range = { min: seconds('1950-01-01T00:00:00Z'), max: seconds('9999-12-31T23:59:59Z') };
    fc.assert(
      fc.property(fc.integer(range), (value) => {
        const encoded = time(value);
        const digits = new Date(value * 1000).toISOString().replace(/\.000Z$|[-:T]/g, '');
        const isUtcTime = encoded[0] === 0x17;
        expect(encoded.subarray(2).toString()).toBe(`${isUtcTime ? digits.slice(2) : digits}Z`);
        expect(new DerReader(encoded).time('time')).toBe(value);
      }),
      { numRuns: 2000 },
    );
  });

  it.each([
    ['UTCTime without seconds', 0x17, '3001010000Z'],
    ['UTCTime with an offset', 0x17, '300101000000+0000'],
    ['UTCTime with an offset in place of Z', 0x17, '3001010000+01'],
    ['month 13', 0x17, '301301000000Z'],
    ['month 0', 0x17, '300001000000Z'],
    ['day 0', 0x17, '300100000000Z'],
    ['31 April', 0x17, '300431000000Z'],
    ['29 February of a common year', 0x17, '300229000000Z'],
    ['29 February 2100', 0x18, '21000229000000Z'],
    ['hour 24', 0x17, '300101240000Z'],
    ['minute 60', 0x17, '300101006000Z'],
    ['a leap second', 0x17, '300630235960Z'],
    ['letters', 0x17, '30O101000000Z'],
    ['a sign', 0x17, '-10101000000Z'],
    ['lower-case z', 0x17, '300101000000z'],
    ['GeneralizedTime before 2050', 0x18, '20491231235959Z'],
    ['GeneralizedTime with a fraction', 0x18, '20500101000000.5Z'],
    ['GeneralizedTime of year 0', 0x18, '00000101000000Z'],
    ['GeneralizedTime without Z', 0x18, '205001010000000'],
    ['UTCTime digits under GeneralizedTime', 0x18, '300101000000Z'],
    ['no content', 0x17, ''],
    ['another type', 0x04, '300101000000Z'],
  ])('refuses %s', (_name, tag, text) => {
    expect(() => new DerReader(tlv(tag, Buffer.from(text))).time('time')).toThrow(/not a valid time/);
  });
});
