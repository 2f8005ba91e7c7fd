import { constants, type KeyObject, verify } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import { explicit, integer, nullValue, oid, sequence } from './der.ts';
import { oids } from './oids.ts';

/** The signature algorithms Vouch makes and accepts; there is no SHA-1, no MD5 and no DSA to fall back to. */
export type SignatureAlgorithm =
  | 'ecdsa-sha256'
  | 'ecdsa-sha384'
  | 'rsa-pkcs1-sha256'
  | 'rsa-pss-sha256'
  | 'ed25519';

const sha256Identifier = sequence(oid(oids.sha256), nullValue);

/** RFC 4055 §3.1: SHA-256, MGF1 with SHA-256, salt of 32 bytes, trailer by default. */
const pssParameters = sequence(
  explicit(0, sha256Identifier),
  explicit(1, sequence(oid(oids.mgf1), sha256Identifier)),
  explicit(2, integer(32n)),
);

/** RFC 5758 §3.2 (no parameters), RFC 4055 §5 (NULL), RFC 8410 §3 (no parameters). */
const identifiers = {
  'ecdsa-sha256': sequence(oid(oids.ecdsaWithSha256)),
  'ecdsa-sha384': sequence(oid(oids.ecdsaWithSha384)),
  'rsa-pkcs1-sha256': sequence(oid(oids.sha256WithRsa), nullValue),
  'rsa-pss-sha256': sequence(oid(oids.rsaPss), pssParameters),
  ed25519: sequence(oid(oids.ed25519)),
} as const satisfies Record<SignatureAlgorithm, Buffer>;

const algorithmOfIdentifier = new Map(
  (Object.keys(identifiers) as SignatureAlgorithm[]).map((name) => [
    identifiers[name].toString('latin1'),
    name,
  ]),
);

/** DER AlgorithmIdentifier. */
export function algorithmIdentifier(algorithm: SignatureAlgorithm): Buffer {
  return identifiers[algorithm];
}

/** The algorithm of a DER AlgorithmIdentifier, compared byte for byte. Throws `request-malformed` for any other. */
export function parseAlgorithmIdentifier(der: Buffer): SignatureAlgorithm {
  const found = algorithmOfIdentifier.get(der.toString('latin1'));
  if (found) return found;
  throw new VouchError(
    'request-malformed',
    `signature algorithm not accepted; use one of ${Object.keys(identifiers).join(', ')}`,
  );
}

/**
 * Whether `signature`, as it stands in a BIT STRING (ECDSA: DER), is this key's over `data`. False, never a throw,
 * for a key of another type or a malformed signature.
 */
export function verifySignature(
  algorithm: SignatureAlgorithm,
  key: KeyObject,
  data: Buffer,
  signature: Buffer,
): boolean {
  if (key.type !== 'public' || key.asymmetricKeyType !== keyTypeOf[algorithm]) return false;
  try {
    return verify(digestOf[algorithm], data, algorithm === 'rsa-pss-sha256' ? pssKey(key) : key, signature);
  } catch {
    return false;
  }
}

/**
 * What an authority with a key of this type may sign with, the usual one first: each curve has its hash, RSA has two
 * schemes. `type` as in `PublicKeyInfo`.
 */
export function algorithmsOf(type: string): readonly [SignatureAlgorithm, ...SignatureAlgorithm[]] {
  if (type === 'ed25519') return ['ed25519'];
  if (type === 'ec-p384') return ['ecdsa-sha384'];
  return type.startsWith('rsa-') ? ['rsa-pkcs1-sha256', 'rsa-pss-sha256'] : ['ecdsa-sha256'];
}

/** What a workload's key, EC, RSA or Ed25519, signs CSR and binding by: RSA by PKCS#1 v1.5. */
export function algorithmFor(key: KeyObject): SignatureAlgorithm {
  if (key.asymmetricKeyType !== 'ec')
    return key.asymmetricKeyType === 'ed25519' ? 'ed25519' : 'rsa-pkcs1-sha256';
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'ecdsa-sha384' : 'ecdsa-sha256';
}

/** The digest that `node:crypto` takes for this algorithm; null where the algorithm has its own (Ed25519). */
export const digestOf = {
  'ecdsa-sha256': 'sha256',
  'ecdsa-sha384': 'sha384',
  'rsa-pkcs1-sha256': 'sha256',
  'rsa-pss-sha256': 'sha256',
  ed25519: null,
} as const satisfies Record<SignatureAlgorithm, string | null>;

const keyTypeOf = {
  'ecdsa-sha256': 'ec',
  'ecdsa-sha384': 'ec',
  'rsa-pkcs1-sha256': 'rsa',
  'rsa-pss-sha256': 'rsa',
  ed25519: 'ed25519',
} as const satisfies Record<SignatureAlgorithm, string>;

function pssKey(key: KeyObject): { key: KeyObject; padding: number; saltLength: number } {
  return { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
}
