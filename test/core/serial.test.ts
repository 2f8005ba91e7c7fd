// A serial is taken as operators paste it, from whatever tool printed it.
import { expect, test } from 'vitest';
import { parseSerial } from '../../src/core/serial.ts';

const whole = `0e${'17'.repeat(16)}`;

test.each([
  ['as `vouch cert list` shows it', whole],
  ['as OpenSSL prints it', whole.toUpperCase()],
  ['with colons', (whole.match(/../g) ?? []).join(':')],
  ['as Go and Java print a number, without the leading zero', whole.slice(1)],
])('%s', (_form, text) => {
  expect(parseSerial(text)).toBe(whole);
});

test.each([
  ['', 'empty'],
  ['0', 'zero'],
  ['00', 'zero in whole bytes'],
  ['ff', 'negative'],
  ['-1', 'a sign'],
  ['0x0e', 'a prefix'],
  ['1'.repeat(41), 'longer than 20 octets'],
  ['0e\n', 'a line end'],
])('%j is refused: %s', (text) => {
  expect(() => parseSerial(text)).toThrow('serial must be 1 to 20 bytes of hex');
});
