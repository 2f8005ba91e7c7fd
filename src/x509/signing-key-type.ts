import type { SignatureAlgorithm } from './algorithm.ts';

/**
 * Keys that Vouch makes in a token: `bits` of the modulus or the curve's field, and the one algorithm that each signs
 * with. `…-pss` is an RSA key as any other (rsaEncryption: Go and others read no id-RSASSA-PSS key, RFC 4055 §1.2) that
 * signs by PSS.
 */
export const signingKeyTypes = {
  'ec-p256': { algorithm: 'ecdsa-sha256', bits: 256 },
  'ec-p384': { algorithm: 'ecdsa-sha384', bits: 384 },
  'rsa-3072': { algorithm: 'rsa-pkcs1-sha256', bits: 3072 },
  'rsa-4096': { algorithm: 'rsa-pkcs1-sha256', bits: 4096 },
  'rsa-3072-pss': { algorithm: 'rsa-pss-sha256', bits: 3072 },
  'rsa-4096-pss': { algorithm: 'rsa-pss-sha256', bits: 4096 },
  ed25519: { algorithm: 'ed25519', bits: 255 },
} as const satisfies Record<string, { algorithm: SignatureAlgorithm; bits: number }>;

/** Name of such a key, as flags give it. */
export type SigningKeyType = keyof typeof signingKeyTypes;

/** All names. */
export const signingKeyTypeNames = Object.keys(signingKeyTypes) as SigningKeyType[];

/** Those of a log key, best first: signed notes have no others (C2SP signed-note). */
export const logKeyTypes = ['ed25519', 'ec-p256'] as const satisfies SigningKeyType[];

/** Type of a log key. */
export type LogKeyType = (typeof logKeyTypes)[number];
