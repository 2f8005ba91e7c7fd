import { createPublicKey, hash, type KeyObject } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import { bitString, nullValue, oid, sequence, tags } from './der.ts';
import { DerReader } from './der-reader.ts';
import { isSmallOrderEd25519, rsaWeakness } from './weak-key.ts';
import { oids } from './oids.ts';

/** The key types Vouch certifies; RSA by its modulus size, 2048 to 4096 bits in whole bytes. */
export type KeyType = 'ec-p256' | 'ec-p384' | 'ed25519' | `rsa-${number}`;

/** A public key that passed every check, with the names that it goes by. */
export interface PublicKeyInfo {
  /** DER SubjectPublicKeyInfo. */
  spki: Buffer;
  key: KeyObject;
  type: KeyType;
  /** SHA-256 of the SubjectPublicKeyInfo, hex. */
  sha256: string;
  /** RFC 7093 method 1, 40 hex. */
  keyId: string;
}

const allowed = 'use ECDSA P-256 or P-384, Ed25519, or RSA of 2048 to 4096 bits with exponent 65537';

/** Larger than an RSA-4096 key's SubjectPublicKeyInfo (550 bytes). */
const spkiMaxBytes = 600;

/** Encodings up to the key bytes: an uncompressed point on a named curve (RFC 5480 §2), an Ed25519 key (RFC 8410 §4). */
const fixedForms = [
  { type: 'ec-p256', prefix: ecPrefix(oids.p256, 64), size: 64 },
  { type: 'ec-p384', prefix: ecPrefix(oids.p384, 96), size: 96 },
  { type: 'ed25519', prefix: spkiPrefix([oid(oids.ed25519)], 32, []), size: 32 },
] as const satisfies { type: KeyType; prefix: Buffer; size: number }[];

const rsaIdentifier = sequence(oid(oids.rsaEncryption), nullValue);

/**
 * Imports a DER SubjectPublicKeyInfo. Its form, size and exponent are checked on the bytes before OpenSSL sees them,
 * which then checks that the point is on its curve; what it would encode must equal the input. Throws `request-key`
 * with what is allowed.
 */
export function importPublicKey(spki: Buffer): PublicKeyInfo {
  const type = keyTypeOf(spki);
  let key: KeyObject;
  try {
    key = createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch (cause) {
    throw new VouchError('request-key', `the public key is not a valid ${type} key; ${allowed}`, { cause });
  }
  if (!key.export({ format: 'der', type: 'spki' }).equals(spki)) refuse('is not in its one DER form');
  return { spki, key, type, sha256: hash('sha256', spki, 'hex'), keyId: keyIdOf(spki) };
}

/** Leftmost 160 bits of SHA-256 of the key's BIT STRING, hex (RFC 7093 §2 method 1). Throws `request-malformed`. */
export function keyIdOf(spki: Buffer): string {
  return hash('sha256', keyBitsOf(spki), 'hex').slice(0, 40);
}

/** The bytes of the key's BIT STRING, a view, which key ids are hashes of. Throws `request-malformed`. */
export function keyBitsOf(spki: Buffer): Buffer {
  const info = new DerReader(spki).enter(tags.sequence, 'public key');
  info.expect(tags.sequence, 'key algorithm');
  return info.octetBits('key');
}

function keyTypeOf(spki: Buffer): KeyType {
  if (spki.length > spkiMaxBytes) refuse('is too large');
  for (const { type, prefix, size } of fixedForms) {
    if (
      spki.length !== prefix.length + size ||
      spki.compare(prefix, 0, prefix.length, 0, prefix.length) !== 0
    )
      continue;
    if (type === 'ed25519' && isSmallOrderEd25519(spki.subarray(prefix.length)))
      refuse('is a point of small order');
    return type;
  }
  return rsaTypeOf(spki);
}

function rsaTypeOf(spki: Buffer): KeyType {
  const { modulus, exponent } = readRsa(spki);
  const digits = modulus[0] === 0 ? modulus.subarray(1) : modulus;
  const bits = digits.length * 8;
  if ((digits[0] ?? 0) < 0x80 || bits < 2048 || bits > 4096)
    refuse(`is RSA of another size than 2048 to 4096 bits`);
  if (!exponent.equals(rsaExponent)) refuse('is RSA with another exponent than 65537');
  const weakness = rsaWeakness(BigInt(`0x${digits.toString('hex')}`));
  if (weakness) refuse(`is RSA with ${weakness}; make a new key with a current library`);
  return `rsa-${bits}`;
}

const rsaExponent = Buffer.from([1, 0, 1]);

function readRsa(spki: Buffer): { modulus: Buffer; exponent: Buffer } {
  try {
    const outer = new DerReader(spki);
    const info = outer.enter(tags.sequence, 'public key');
    outer.finish('public key');
    if (!info.element(tags.sequence, 'key algorithm').equals(rsaIdentifier))
      return refuse('is of another type');
    const key = new DerReader(info.octetBits('key'));
    info.finish('public key');
    const pair = key.enter(tags.sequence, 'RSA key');
    key.finish('RSA key');
    const modulus = pair.unsigned(spkiMaxBytes, 'modulus');
    const exponent = pair.unsigned(spkiMaxBytes, 'exponent');
    pair.finish('RSA key');
    return { modulus, exponent };
  } catch (cause) {
    if (cause instanceof VouchError && cause.code === 'request-key') throw cause;
    throw new VouchError('request-key', `the public key is not valid DER; ${allowed}`, { cause });
  }
}

function refuse(why: string): never {
  throw new VouchError('request-key', `the public key ${why}; ${allowed}`);
}

function ecPrefix(curve: string, size: number): Buffer {
  return spkiPrefix([oid(oids.ecPublicKey), oid(curve)], size, [0x04]);
}

/** A SubjectPublicKeyInfo's bytes before the last `size`, which are the key. */
function spkiPrefix(algorithm: readonly Buffer[], size: number, pointForm: readonly number[]): Buffer {
  const key = Buffer.concat([Buffer.from(pointForm), Buffer.alloc(size)]);
  return sequence(sequence(...algorithm), bitString(key)).subarray(0, -size);
}
