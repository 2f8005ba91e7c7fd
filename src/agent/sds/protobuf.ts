/** The wire format of protocol buffers, as far as secret discovery uses it: varints and length-delimited fields. */

const varintType = 0;
const bytesType = 2;

/** A length-delimited field, as parts whose bytes follow one another: large ones are copied once, at the end. */
export function bytesField(number: number, ...value: readonly Uint8Array[]): Uint8Array[] {
  const length = value.reduce((sum, part) => sum + part.length, 0);
  return [varint(number * 8 + bytesType), varint(length), ...value];
}

export function textField(number: number, value: string): Uint8Array[] {
  return value === '' ? [] : bytesField(number, Buffer.from(value));
}

/** An enum or a bool. */
export function varintField(number: number, value: number): Uint8Array[] {
  return value === 0 ? [] : [varint(number * 8 + varintType), varint(value)];
}

/** A field of a message: bytes where it is length-delimited, a number where it is a varint. */
export interface Field {
  number: number;
  value: Buffer | number;
}

/** The fields of a message in their order; others than varints and length-delimited ones are left out. Throws RangeError. */
export function* fieldsOf(message: Buffer): Generator<Field> {
  let at = 0;
  const next = (): number => {
    let value = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      const byte = message[at++];
      if (byte === undefined) throw new RangeError('cut short');
      // Ten bytes hold a negative number; past 53 bits only its low ones matter to nobody here.
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new RangeError('a varint of more than ten bytes');
  };
  const skip = (length: number): Buffer => {
    if (length > message.length - at) throw new RangeError('cut short');
    at += length;
    return message.subarray(at - length, at);
  };
  while (at < message.length) {
    const key = next();
    const number = Math.floor(key / 8);
    switch (key % 8) {
      case varintType:
        yield { number, value: next() };
        break;
      case bytesType:
        yield { number, value: skip(next()) };
        break;
      case 1:
        skip(8);
        break;
      case 5:
        skip(4);
        break;
      default:
        throw new RangeError('an unknown wire type');
    }
  }
}

function varint(value: number): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 128)) bytes.push((rest % 128) + 128);
  bytes.push(rest);
  return Uint8Array.from(bytes);
}
