import pkcs11 from 'pkcs11js';
import { bitString, integer, nullValue, oid, sequence } from '../../x509/der.ts';

/** Numbers that pkcs11js 2.1 lacks (PKCS#11 3.0). */
export const ckkEcEdwards = 0x40;
export const ckmEddsa = 0x1057;
export const ckmEcEdwardsKeyPairGen = 0x1055;

/** 65537, the one exponent of RSA keys here. */
export const rsaExponent = Buffer.from([1, 0, 1]);

/** A named curve: CKA_EC_PARAMS, size of a bare point, and the SPKI around it. */
export interface Curve {
  /** DER OBJECT IDENTIFIER. */
  parameters: Buffer;
  pointBytes: number;
  spki: (point: Buffer) => Buffer;
}

const ecPublicKey = oid('1.2.840.10045.2.1');
const rsaEncryption = oid('1.2.840.113549.1.1.1');

/** The curves Vouch uses. */
export const curves = {
  'ec-p256': weierstrass(oid('1.2.840.10045.3.1.7'), 65),
  'ec-p384': weierstrass(oid('1.3.132.0.34'), 97),
  ed25519: {
    parameters: oid('1.3.101.112'),
    pointBytes: 32,
    spki: (point) => sequence(sequence(oid('1.3.101.112')), bitString(point)),
  },
} as const satisfies Record<string, Curve>;

/**
 * CKA_EC_PARAMS of Ed25519 as tokens have it: RFC 8410's OID, the curve's name as PrintableString (PKCS#11 3.0 §2.3.5),
 * the OID of GnuPG. A token that makes keys by one may know none of the others.
 */
export const edwardsParameters: readonly Buffer[] = [
  oid('1.3.101.112'),
  Buffer.concat([Buffer.from([0x13, 12]), Buffer.from('edwards25519', 'latin1')]),
  oid('1.3.6.1.4.1.11591.15.1'),
];

/**
 * DER SubjectPublicKeyInfo from a public key object's CKA_EC_PARAMS and CKA_EC_POINT, the point with or without its
 * OCTET STRING (PKCS#11 §6.3.3 wants it, many tokens leave it out). Undefined for a curve or point that Vouch does
 * not use.
 */
export function ecSpki(parameters: Buffer, value: Buffer): Buffer | undefined {
  for (const curve of Object.values(curves)) {
    const names = curve === curves.ed25519 ? edwardsParameters : [curve.parameters];
    if (!names.some((name) => name.equals(parameters))) continue;
    const point = barePoint(value, curve.pointBytes);
    return point && curve.spki(point);
  }
  return undefined;
}

/** DER SubjectPublicKeyInfo from CKA_MODULUS and CKA_PUBLIC_EXPONENT (unsigned, big endian). */
export function rsaSpki(modulus: Buffer, exponent: Buffer): Buffer {
  const key = sequence(integer(unsigned(modulus)), integer(unsigned(exponent)));
  return sequence(sequence(rsaEncryption, nullValue), bitString(key));
}

/** The named attributes of a private key that Vouch sets and then checks, each with the value it must have. */
export const privateKeyRules: readonly { name: string; type: number; value: boolean }[] = [
  { name: 'CKA_SENSITIVE', type: pkcs11.CKA_SENSITIVE, value: true },
  { name: 'CKA_EXTRACTABLE', type: pkcs11.CKA_EXTRACTABLE, value: false },
  { name: 'CKA_PRIVATE', type: pkcs11.CKA_PRIVATE, value: true },
  { name: 'CKA_SIGN', type: pkcs11.CKA_SIGN, value: true },
  { name: 'CKA_SIGN_RECOVER', type: pkcs11.CKA_SIGN_RECOVER, value: false },
  { name: 'CKA_DECRYPT', type: pkcs11.CKA_DECRYPT, value: false },
  { name: 'CKA_UNWRAP', type: pkcs11.CKA_UNWRAP, value: false },
  { name: 'CKA_DERIVE', type: pkcs11.CKA_DERIVE, value: false },
];

function weierstrass(parameters: Buffer, pointBytes: number): Curve {
  return {
    parameters,
    pointBytes,
    spki: (point) => sequence(sequence(ecPublicKey, parameters), bitString(point)),
  };
}

function barePoint(value: Buffer, pointBytes: number): Buffer | undefined {
  if (value.length === pointBytes) return value;
  const wrapped = value.length === pointBytes + 2 && value[0] === 0x04 && value[1] === pointBytes;
  return wrapped ? value.subarray(2) : undefined;
}

function unsigned(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex') || '0'}`);
}
