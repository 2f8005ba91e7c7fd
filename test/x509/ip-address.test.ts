import { isIP } from 'node:net';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ipBytes, ipText } from '../../src/x509/ip-address.ts';

describe('ip addresses', () => {
  it.each([
    ['192.0.2.7', 'c0000207', '192.0.2.7'],
    ['0.0.0.0', '00000000', '0.0.0.0'],
    ['::', '0'.repeat(32), '::'],
    ['::1', `${'0'.repeat(31)}1`, '::1'],
    ['2001:DB8:0:0:1:0:0:1', '20010db8000000000001000000000001', '2001:db8::1:0:0:1'],
    ['2001:db8:0:1:1:1:1:1', '20010db8000000010001000100010001', '2001:db8:0:1:1:1:1:1'],
    ['2001:db8::', '20010db8000000000000000000000000', '2001:db8::'],
    ['::ffff:192.0.2.7', '00000000000000000000ffffc0000207', '::ffff:c000:207'],
    ['64:ff9b::192.0.2.7', '0064ff9b0000000000000000c0000207', '64:ff9b::c000:207'],
    ['1:2:3:4:5:6:7::', '00010002000300040005000600070000', '1:2:3:4:5:6:7:0'],
  ])('%s', (text, hex, canonical) => {
    const bytes = ipBytes(text);
    expect(bytes?.toString('hex')).toBe(hex);
    expect(bytes && ipText(bytes)).toBe(canonical);
  });

  it.each([
    '',
    '1',
    '1.2.3',
    '1.2.3.4.5',
    '01.2.3.4',
    '0177.0.0.1',
    '256.1.1.1',
    '1.2.3.-4',
    '1.2.3.4 ',
    '0x7f.1.1.1',
    '2130706433',
    ':',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7',
    '1:2:3:4:5:6:7:8:9',
    '1:2:3:4:5:6:7:8::',
    '12345::',
    'g::',
    'fe80::1%eth0',
    '1.2.3.4::',
    '::1.2.3.4:5',
    '1:2:3:4:5:6:7:1.2.3.4',
    '::1.2.3',
    '[::1]',
    '１.2.3.4',
  ])('%j is none', (text) => {
    expect(ipBytes(text)).toBeUndefined();
  });

  it('refuses bytes of another length', () => {
    for (const length of [0, 3, 5, 8, 15, 17]) expect(ipText(Buffer.alloc(length))).toBeUndefined();
  });

  it('agrees with node:net on what is an address, and round trips', () => {
    const text = fc.oneof(
      fc.ipV4(),
      fc.ipV6(),
      fc.string({ unit: fc.constantFrom(...'0123456789abcdef:.'), maxLength: 20 }),
    );
    fc.assert(
      fc.property(text, (input) => {
        const bytes = ipBytes(input);
        expect(bytes !== undefined).toBe(isIP(input) !== 0);
        if (bytes) expect(ipBytes(ipText(bytes) ?? '')).toEqual(bytes);
      }),
      { numRuns: 3000 },
    );
  });
});
