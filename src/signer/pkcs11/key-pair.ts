import { randomBytes } from 'node:crypto';
import pkcs11 from 'pkcs11js';
import { VouchError } from '../../core/errors.ts';
import { signatureAlgorithmOf } from '../../x509/algorithm.ts';
import type { HsmKey } from '../hsm.ts';
import { ckkEcEdwards, ckmEcEdwardsKeyPairGen, ckmEddsa, curves, privateKeyRules } from './attributes.ts';
import { hsmFailure } from './errors.ts';
import { publicSpki, TokenKey } from './key.ts';
import type { HsmToken } from './token.ts';

/** Keys that Vouch makes. */
export type GeneratedKeyType = keyof typeof curves;

/** True where the token signs with Ed25519; a log key is P-256 elsewhere. */
export function hasEd25519(token: HsmToken): boolean {
  const offered = token.mechanisms();
  return offered.includes(ckmEddsa) && offered.includes(ckmEcEdwardsKeyPairGen);
}

/**
 * Makes a key pair that never leaves the token and only signs, under a random CKA_ID of 16 bytes, and proves all of
 * that afterwards. Throws `config-hsm`.
 */
export function generateKeyPair(token: HsmToken, request: { type: GeneratedKeyType; label: string }): HsmKey {
  const id = randomBytes(16);
  const isEdwards = request.type === 'ed25519';
  const mechanism = isEdwards ? ckmEcEdwardsKeyPairGen : pkcs11.CKM_EC_KEY_PAIR_GEN;
  const common = [
    { type: pkcs11.CKA_KEY_TYPE, value: isEdwards ? ckkEcEdwards : pkcs11.CKK_EC },
    { type: pkcs11.CKA_TOKEN, value: true },
    { type: pkcs11.CKA_ID, value: id },
    { type: pkcs11.CKA_LABEL, value: request.label },
  ];
  const publicTemplate = [
    ...common,
    { type: pkcs11.CKA_EC_PARAMS, value: curves[request.type].parameters },
    { type: pkcs11.CKA_VERIFY, value: true },
  ];
  const privateTemplate = [...common, ...privateKeyRules.map(({ type, value }) => ({ type, value }))];
  try {
    token.module.C_GenerateKeyPair(token.session, { mechanism }, publicTemplate, privateTemplate);
  } catch (error) {
    throw hsmFailure('C_GenerateKeyPair', error);
  }
  return provenKey(token, id.toString('hex'), request.type);
}

function provenKey(token: HsmToken, ckaId: string, type: GeneratedKeyType): HsmKey {
  const publicKeySpki = publicSpki(token, ckaId);
  if (!publicKeySpki)
    throw new VouchError('config-hsm', 'the token made a key pair and does not show its public half');
  const key = { ckaId, algorithm: signatureAlgorithmOf(type), publicKeySpki };
  new TokenKey(token, key).prove('all');
  return key;
}
