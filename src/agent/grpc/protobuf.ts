// The wire format of Protocol Buffers, as much of it as messages on the agent's socket need. No descriptors: a message is
// written field by field, and read into its fields, of which the reader takes those that it knows.
import { GrpcError, GrpcStatus } from './status.ts';

const wire = { varint: 0, fixed64: 1, bytes: 2, fixed32: 5 } as const;
/** Of one message that is read: ours have a few repeated strings. */
const fieldsMax = 4096;

/** A field of bytes, text or an encoded message, also when it is empty (as an element of a repeated field must be). */
export function bytesField(number: number, value: Uint8Array | string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value) : value;
  return Buffer.concat([key(number, wire.bytes), varint(bytes.length), bytes]);
}

/** The same in parts whose bytes follow one another: what is large is copied once, when all of it is put together. */
export function fieldParts(number: number, value: readonly Uint8Array[]): Uint8Array[] {
  const length = value.reduce((sum, part) => sum + part.length, 0);
  return [key(number, wire.bytes), varint(length), ...value];
}

/** The same, nothing for the default value. */
export function optionalField(number: number, value: Uint8Array | string): Buffer {
  return value.length === 0 ? nothing : bytesField(number, value);
}

/** A field of uint32, uint64, bool or enum; written also when it is 0, as members of a oneof are. */
export function varintField(number: number, value: number): Buffer {
  return Buffer.concat([key(number, wire.varint), varint(value)]);
}

export function doubleField(number: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([key(number, wire.fixed64), bytes]);
}

/** An entry of `map<string, bytes>` or of a map of messages: a message of key and value. */
export function mapField(number: number, name: string, value: Uint8Array): Buffer {
  return bytesField(number, Buffer.concat([optionalField(1, name), optionalField(2, value)]));
}

/** A field as it was read: its bytes, or its number modulo 2^53 where it is a varint. */
export interface Field {
  readonly number: number;
  readonly value: Buffer | number;
}

/** The fields of a message in their order; fixed-width ones, which no message of ours has, are left out. Throws InvalidArgument. */
export function readFields(message: Buffer): Field[] {
  const fields: Field[] = [];
  const cursor = { message, offset: 0 };
  while (cursor.offset < message.length) {
    const tag = readVarint(cursor);
    const number = Math.floor(tag / 8);
    if (number < 1 || number > 0x1fffffff || fields.length >= fieldsMax) throw malformed();
    const type = tag % 8;
    if (type === wire.varint) fields.push({ number, value: readVarint(cursor) });
    else if (type === wire.bytes) fields.push({ number, value: readBytes(cursor, readVarint(cursor)) });
    else if (type === wire.fixed64) readBytes(cursor, 8);
    else if (type === wire.fixed32) readBytes(cursor, 4);
    else throw malformed();
  }
  return fields;
}

/** The values of a repeated field of bytes or messages. */
export function allBytes(fields: readonly Field[], number: number): Buffer[] {
  return fields.flatMap((field) =>
    field.number === number && typeof field.value !== 'number' ? [field.value] : [],
  );
}

/** Of a repeated field of text. Throws InvalidArgument for what is no UTF-8. */
export function allTexts(fields: readonly Field[], number: number): string[] {
  return allBytes(fields, number).map(textOf);
}

/** The last value counts; '' without one. */
export function lastText(fields: readonly Field[], number: number): string {
  return textOf(allBytes(fields, number).at(-1) ?? nothing);
}

const nothing = Buffer.alloc(0);
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function textOf(bytes: Buffer): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw malformed();
  }
}

function key(number: number, type: number): Buffer {
  return varint(number * 8 + type);
}

/** Of a whole number from 0 to 2^53 - 1. */
function varint(value: number): Buffer {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  bytes.push(rest);
  return Buffer.from(bytes);
}

interface Cursor {
  readonly message: Buffer;
  offset: number;
}

function readVarint(cursor: Cursor): number {
  let value = 0n;
  for (let shift = 0n; shift < 70n; shift += 7n) {
    const byte = cursor.message[cursor.offset++];
    if (byte === undefined) throw malformed();
    value |= BigInt(byte & 0x7f) << shift;
    if (byte < 0x80) return Number(BigInt.asUintN(53, value));
  }
  throw malformed();
}

function readBytes(cursor: Cursor, length: number): Buffer {
  const end = cursor.offset + length;
  if (end > cursor.message.length) throw malformed();
  const bytes = cursor.message.subarray(cursor.offset, end);
  cursor.offset = end;
  return bytes;
}

function malformed(): GrpcError {
  return new GrpcError(GrpcStatus.invalidArgument, 'malformed request');
}
