import { VouchError } from '../core/errors.ts';
import { tags } from './der.ts';
import { DerReader } from './der-reader.ts';

/** A DER ECDSA signature (RFC 3279 §2.2.3) as r ‖ s of `half` bytes each (RFC 7518 §3.4). Throws `request-malformed`. */
export function rawEcdsaSignature(der: Buffer, half: number): Buffer {
  const outer = new DerReader(der);
  const pair = outer.enter(tags.sequence, 'ECDSA signature');
  outer.finish('ECDSA signature');
  const raw = Buffer.alloc(2 * half);
  for (const end of [half, 2 * half]) {
    const number = pair.unsigned(half + 1, 'ECDSA signature');
    const value = number.length > half && number[0] === 0 ? number.subarray(1) : number;
    if (value.length > half)
      throw new VouchError('request-malformed', `the ECDSA signature is of more than ${half} bytes`);
    value.copy(raw, end - value.length);
  }
  pair.finish('ECDSA signature');
  return raw;
}
