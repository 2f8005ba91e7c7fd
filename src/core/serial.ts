import { VouchError } from './errors.ts';

/** A certificate serial number: lower-case hex, whole bytes, positive, at most 20 octets (RFC 5280 §4.1.2.2). */
export type Serial = string & { readonly __brand: 'Serial' };

/**
 * Parses a serial as operators paste it: hex of either case, colons allowed, a leading zero left away (as tools do that
 * print it as a number). Throws `request-malformed`.
 */
export function parseSerial(text: string): Serial {
  const digits = text.replaceAll(':', '').toLowerCase();
  const hex = digits.padStart(digits.length + (digits.length % 2), '0');
  if (!/^(?:[0-9a-f]{2}){1,20}$/.test(hex) || /^[89a-f]/.test(hex) || /^0*$/.test(hex))
    throw new VouchError(
      'request-malformed',
      `serial must be 1 to 20 bytes of hex, positive: ${JSON.stringify(text.slice(0, 60))}`,
    );
  return hex as Serial;
}

/** Bytes as they stand in the certificate's INTEGER. */
export function serialBytes(serial: Serial): Buffer {
  return Buffer.from(serial, 'hex');
}

/**
 * A fresh serial (I2): one fixed byte in 0x01–0x7f, which keeps it positive and of one length, and 16 random bytes.
 * `random` must return that many bytes of a CSPRNG.
 */
export function newSerial(prefix: number, random: (size: number) => Buffer): Serial {
  if (prefix < 0x01 || prefix > 0x7f) throw new Error('serial prefix outside 0x01-0x7f');
  const bytes = random(16);
  if (__VOUCH_WITHOUT__ !== 'I2' && bytes.length !== 16) throw new Error('random generator gave no 16 bytes');
  return Buffer.concat([Buffer.from([prefix]), bytes]).toString('hex') as Serial;
}
