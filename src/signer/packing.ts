import { assert, VouchError } from '../core/errors.ts';

/** Collects the fields of a payload: big-endian numbers, byte strings behind a u32 length. */
export class Packer {
  readonly #parts: Buffer[] = [];

  u8(value: number): this {
    assert(Number.isInteger(value) && value >= 0 && value <= 0xff, 'u8 in range');
    this.#parts.push(Buffer.from([value]));
    return this;
  }

  flag(value: boolean): this {
    return this.u8(value ? 1 : 0);
  }

  u32(value: number): this {
    assert(Number.isInteger(value) && value >= 0 && value <= 0xffff_ffff, 'u32 in range');
    const bytes = Buffer.allocUnsafe(4);
    bytes.writeUInt32BE(value);
    this.#parts.push(bytes);
    return this;
  }

  /** A safe integer as u64. */
  u64(value: number): this {
    assert(Number.isSafeInteger(value) && value >= 0, 'u64 is a safe integer');
    const bytes = Buffer.allocUnsafe(8);
    bytes.writeBigUInt64BE(BigInt(value));
    this.#parts.push(bytes);
    return this;
  }

  bytes(value: Buffer): this {
    this.u32(value.length);
    this.#parts.push(value);
    return this;
  }

  text(value: string): this {
    return this.bytes(Buffer.from(value, 'utf8'));
  }

  list<T>(values: readonly T[], write: (value: T) => void): this {
    this.u32(values.length);
    for (const value of values) write(value);
    return this;
  }

  payload(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Reads what `Packer` wrote; any byte missing, left over or out of range is `request-malformed`. */
export class Unpacker {
  readonly #payload: Buffer;
  #at = 0;

  constructor(payload: Buffer) {
    this.#payload = payload;
  }

  u8(): number {
    return this.#take(1).readUInt8();
  }

  /** One byte, 0 or 1. */
  flag(): boolean {
    const value = this.u8();
    return value <= 1 ? value === 1 : refuse();
  }

  u32(): number {
    return this.#take(4).readUInt32BE();
  }

  u64(): number {
    const value = Number(this.#take(8).readBigUInt64BE());
    return Number.isSafeInteger(value) ? value : refuse();
  }

  bytes(max: number): Buffer {
    const length = this.u32();
    return length <= max ? this.#take(length) : refuse();
  }

  text(max: number): string {
    return this.bytes(max).toString('utf8');
  }

  /** A list of at most `max`; the announced count is never trusted with memory. */
  list<T>(max: number, read: () => T): T[] {
    const count = this.u32();
    if (count > max) refuse();
    const values: T[] = [];
    for (let index = 0; index < count; index += 1) values.push(read());
    return values;
  }

  end(): void {
    if (this.#at !== this.#payload.length) refuse();
  }

  #take(length: number): Buffer {
    if (this.#payload.length - this.#at < length) refuse();
    this.#at += length;
    return this.#payload.subarray(this.#at - length, this.#at);
  }
}

function refuse(): never {
  throw new VouchError('request-malformed', 'signer message is malformed; both ends must be of one version');
}
