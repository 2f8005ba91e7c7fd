import { hash } from 'node:crypto';
import { assert, VouchError } from '../../core/errors.ts';
import type { SignatureAlgorithm } from '../../x509/algorithm.ts';
import { integer, nullValue, octetString, oid, sequence } from '../../x509/der.ts';
import type { Signable } from '../hsm.ts';

/** What stands around C_Sign: hashed outside, since many tokens have no mechanism that hashes too. */
export interface SigningMethod {
  /** What C_Sign is given. */
  input: (data: Signable) => Buffer;
  /** The signature as it stands in a BIT STRING, from what C_Sign returned. */
  output: (raw: Buffer) => Buffer;
}

const same = (bytes: Buffer) => bytes;
const sha256 = (data: Signable) => (Buffer.isBuffer(data) ? hash('sha256', data, 'buffer') : data.digest);
const sha384 = (data: Signable) => (Buffer.isBuffer(data) ? hash('sha384', data, 'buffer') : data.digest);
const sha256Identifier = sequence(oid('2.16.840.1.101.3.4.2.1'), nullValue);

/** The method for each algorithm. */
export const signingMethods: Readonly<Record<SignatureAlgorithm, SigningMethod>> = {
  'ecdsa-sha256': { input: sha256, output: (raw) => ecdsaDer(raw, 32) },
  'ecdsa-sha384': { input: sha384, output: (raw) => ecdsaDer(raw, 48) },
  ed25519: { input: bytesOf, output: same },
  // DigestInfo, RFC 8017 §9.2.
  'rsa-pkcs1-sha256': {
    input: (data) => sequence(sha256Identifier, octetString(sha256(data))),
    output: same,
  },
  'rsa-pss-sha256': { input: sha256, output: same },
};

/**
 * What a key signs at the start to prove itself: no certificate, CRL or checkpoint could be it, and who reads a token's
 * own log of signatures knows it again.
 */
export function proofText(publicKeySpki: Buffer): Buffer {
  return Buffer.concat([Buffer.from('vouch start-up proof\n'), publicKeySpki]);
}

/** r ‖ s of `half` bytes each as SEQUENCE of two INTEGERs (RFC 3279 §2.2.3). Throws `integrity-signature`. */
export function ecdsaDer(raw: Buffer, half: number): Buffer {
  if (raw.length !== 2 * half)
    throw new VouchError(
      'integrity-signature',
      `the token returned an ECDSA signature of ${raw.length} bytes`,
    );
  return sequence(unsignedInteger(raw.subarray(0, half)), unsignedInteger(raw.subarray(half)));
}

function bytesOf(data: Signable): Buffer {
  assert(Buffer.isBuffer(data), 'Ed25519 signs bytes');
  return data;
}

function unsignedInteger(bytes: Buffer): Buffer {
  let start = 0;
  while (start < bytes.length - 1 && bytes[start] === 0) start += 1;
  const minimal = bytes.subarray(start);
  return integer((minimal[0] ?? 0) >= 0x80 ? Buffer.concat([Buffer.from([0]), minimal]) : minimal);
}
