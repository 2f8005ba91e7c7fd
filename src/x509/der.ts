import { assert } from '../core/errors.ts';

/** Universal tags as they stand in the first byte (X.690 §8.1.2). */
export const tags = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const;

/** How many bytes the DER length field of a content this long takes. */
export function lengthSize(length: number): number {
  if (length < 0x80) return 1;
  if (length < 0x100) return 2;
  if (length < 0x10000) return 3;
  return length < 0x1000000 ? 4 : 5;
}

/** Writes tag and definite minimal length at `offset`; returns where the content begins. */
export function writeHeader(out: Buffer, offset: number, tag: number, length: number): number {
  let at = offset;
  out[at++] = tag;
  const size = lengthSize(length);
  if (size === 1) {
    out[at++] = length;
    return at;
  }
  out[at++] = 0x80 | (size - 1);
  for (let shift = (size - 2) * 8; shift >= 0; shift -= 8) out[at++] = (length >>> shift) & 0xff;
  return at;
}

/** One element: tag byte, minimal length, the parts as content. */
export function tlv(tag: number, ...parts: readonly Uint8Array[]): Buffer {
  let length = 0;
  for (const part of parts) length += part.length;
  const out = Buffer.allocUnsafe(1 + lengthSize(length) + length);
  let at = writeHeader(out, 0, tag, length);
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** SEQUENCE of the encoded parts. */
export function sequence(...parts: readonly Uint8Array[]): Buffer {
  return tlv(tags.sequence, ...parts);
}

/** SET OF: the encoded parts in DER order (X.690 §11.6). */
export function set(...parts: readonly Uint8Array[]): Buffer {
  return tlv(tags.set, ...(parts.length > 1 ? [...parts].sort((a, b) => Buffer.compare(a, b)) : parts));
}

/** INTEGER from a non-negative bigint, or from its content bytes, which must be minimal two's complement. */
export function integer(value: bigint | Buffer): Buffer {
  if (typeof value !== 'bigint') {
    assert(isMinimalInteger(value, 0, value.length), 'INTEGER content is minimal');
    return tlv(tags.integer, value);
  }
  assert(value >= 0n, 'INTEGER is not negative');
  const hex = value.toString(16);
  const even = hex.length % 2 === 0 ? hex : `0${hex}`;
  return tlv(tags.integer, Buffer.from(/^[89a-f]/.test(even) ? `00${even}` : even, 'hex'));
}

/** True where the bytes [start, end) are a minimal two's complement integer (X.690 §8.3.2). */
export function isMinimalInteger(bytes: Uint8Array, start: number, end: number): boolean {
  if (end <= start) return false;
  if (end - start === 1) return true;
  const first = bytes[start];
  const nextIsNegative = (bytes[start + 1] ?? 0) >= 0x80;
  return !(first === 0 && !nextIsNegative) && !(first === 0xff && nextIsNegative);
}

/** OBJECT IDENTIFIER from dotted text. */
export function oid(text: string): Buffer {
  return tlv(tags.oid, oidContent(text));
}

/** Content bytes of an OBJECT IDENTIFIER (X.690 §8.19). */
export function oidContent(text: string): Buffer {
  const [first = Number.NaN, second = Number.NaN, ...rest] = text.split('.').map(Number);
  const arcs = [first * 40 + second, ...rest];
  assert(first <= 2 && arcs.every((arc) => Number.isSafeInteger(arc) && arc >= 0), `OID ${text}`);
  return Buffer.from(arcs.flatMap(base128));
}

/** BOOLEAN; DER leaves a DEFAULT FALSE out, so FALSE is rarely written. */
export function boolean(value: boolean): Buffer {
  return Buffer.from([tags.boolean, 1, value ? 0xff : 0]);
}

/** OCTET STRING around the parts. */
export function octetString(...parts: readonly Uint8Array[]): Buffer {
  return tlv(tags.octetString, ...parts);
}

/** BIT STRING of whole bytes, the last `unusedBits` bits of which are zero and do not count. */
export function bitString(bytes: Uint8Array, unusedBits = 0): Buffer {
  return tlv(tags.bitString, unusedBitsPrefix[unusedBits] ?? Buffer.from([unusedBits]), bytes);
}

const unusedBitsPrefix = [Buffer.from([0])];

/** UTF8String. */
export function utf8String(text: string): Buffer {
  return tlv(tags.utf8String, Buffer.from(text, 'utf8'));
}

/** IA5String of printable ASCII; anything else is a programming error (names are checked where they come in). */
export function ia5String(text: string): Buffer {
  return tlv(tags.ia5String, asciiBytes(text));
}

/** Bytes of a text that must be printable ASCII: no control, no NUL, nothing above 0x7e. */
export function asciiBytes(text: string): Buffer {
  assert(/^[\x20-\x7e]*$/.test(text), 'text is printable ASCII');
  return Buffer.from(text, 'latin1');
}

const firstUtcTime = Date.UTC(1950, 0, 1) / 1000;
const firstGeneralizedTime = Date.UTC(2050, 0, 1) / 1000;
const lastTime = Date.UTC(9999, 11, 31, 23, 59, 59) / 1000;

/** Unix seconds as UTCTime through 2049, as GeneralizedTime from 2050 (RFC 5280 §4.1.2.5). */
export function time(seconds: number): Buffer {
  if (seconds >= firstGeneralizedTime) return generalizedTime(seconds);
  return timeElement(tags.utcTime, 13, seconds);
}

/** Unix seconds as GeneralizedTime, YYYYMMDDHHMMSSZ. */
export function generalizedTime(seconds: number): Buffer {
  return timeElement(tags.generalizedTime, 15, seconds);
}

/** [n] EXPLICIT: a constructed context tag around whole elements. */
export function explicit(tagNumber: number, ...parts: readonly Uint8Array[]): Buffer {
  return tlv(0xa0 | tagNumber, ...parts);
}

/** [n] IMPLICIT over a primitive's content, or over a constructed one's elements. */
export function implicit(tagNumber: number, content: Uint8Array, constructed = false): Buffer {
  return tlv((constructed ? 0xa0 : 0x80) | tagNumber, content);
}

/** NULL. */
export const nullValue: Buffer = Buffer.from([tags.null, 0]);

/** By arithmetic on days that count from 1 March of year 0, since a CRL has a million of these and a Date costs 1 µs. */
function timeElement(tag: number, length: number, seconds: number): Buffer {
  assert(
    Number.isSafeInteger(seconds) && seconds >= firstUtcTime && seconds <= lastTime,
    'time is from 1950 to 9999',
  );
  const days = Math.floor(seconds / 86_400);
  const second = seconds - days * 86_400;
  const era = Math.floor((days + 719_468) / 146_097);
  const dayOfEra = days + 719_468 - era * 146_097;
  const yearOfEra = Math.floor(
    (dayOfEra -
      Math.floor(dayOfEra / 1460) +
      Math.floor(dayOfEra / 36_524) -
      Math.floor(dayOfEra / 146_096)) /
      365,
  );
  const dayOfYear = dayOfEra - (365 * yearOfEra + Math.floor(yearOfEra / 4) - Math.floor(yearOfEra / 100));
  const marchMonth = Math.floor((5 * dayOfYear + 2) / 153);
  const month = marchMonth < 10 ? marchMonth + 3 : marchMonth - 9;
  const year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0);
  const out = Buffer.allocUnsafe(2 + length);
  out[0] = tag;
  out[1] = length;
  if (length === 15) writeDigits(out, 2, Math.floor(year / 100));
  writeDigits(out, length - 11, year % 100);
  writeDigits(out, length - 9, month);
  writeDigits(out, length - 7, dayOfYear - Math.floor((153 * marchMonth + 2) / 5) + 1);
  writeDigits(out, length - 5, Math.floor(second / 3600));
  writeDigits(out, length - 3, Math.floor(second / 60) % 60);
  writeDigits(out, length - 1, second % 60);
  out[length + 1] = 0x5a;
  return out;
}

/** Two decimal digits. */
function writeDigits(out: Buffer, at: number, value: number): void {
  out[at] = 0x30 + Math.floor(value / 10);
  out[at + 1] = 0x30 + (value % 10);
}

function base128(arc: number): number[] {
  const digits = [arc % 128];
  for (let rest = Math.floor(arc / 128); rest > 0; rest = Math.floor(rest / 128))
    digits.unshift((rest % 128) | 0x80);
  return digits;
}
