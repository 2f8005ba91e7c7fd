import { randomBytes } from 'node:crypto';
import pkcs11 from 'pkcs11js';
import { VouchError } from '../../core/errors.ts';
import { type SigningKeyType, signingKeyTypes } from '../../x509/signing-key-type.ts';
import type { HsmKey } from '../hsm.ts';
import { requireKeyType } from '../key-types.ts';
import { ckkEcEdwards, curves, edwardsParameters, privateKeyRules, rsaExponent } from './attributes.ts';
import { ckrName, hsmFailure } from './errors.ts';
import { publicSpkis, TokenKey } from './key.ts';
import { keyTypeProblems, pairMechanisms } from './mechanisms.ts';
import type { HsmToken } from './token.ts';

/** What a token answers to a name of a curve that it does not know. */
const unknownCurve = [
  'CKR_CURVE_NOT_SUPPORTED',
  'CKR_DOMAIN_PARAMS_INVALID',
  'CKR_ATTRIBUTE_VALUE_INVALID',
  'CKR_TEMPLATE_INCONSISTENT',
];

/**
 * Makes a key pair that never leaves the token and only signs, under a random CKA_ID of 16 bytes, and proves all of
 * that afterwards. Throws `config-hsm`, before a key is made where the token has not its mechanisms.
 */
export function generateKeyPair(token: HsmToken, request: { type: SigningKeyType; label: string }): HsmKey {
  const { type, label } = request;
  requireKeyType(keyTypeProblems(token), type, token.label);
  const { algorithm } = signingKeyTypes[type];
  const id = randomBytes(16);
  const [keyType, ...parameters] = keyAttributes(type);
  const common = [
    { type: pkcs11.CKA_KEY_TYPE, value: keyType },
    { type: pkcs11.CKA_TOKEN, value: true },
    { type: pkcs11.CKA_ID, value: id },
    { type: pkcs11.CKA_LABEL, value: label },
  ];
  const privateTemplate = [
    ...common,
    ...privateKeyRules.map((rule) => ({ type: rule.type, value: rule.value })),
  ];
  const { mechanism } = pairMechanisms[algorithm];
  for (const [index, forms] of parameters.entries()) {
    const publicTemplate = [...common, ...forms];
    try {
      token.module.C_GenerateKeyPair(token.session, { mechanism }, publicTemplate, privateTemplate);
      break;
    } catch (error) {
      const isLast = index === parameters.length - 1;
      if (isLast || !unknownCurve.includes(ckrName(error) ?? ''))
        throw hsmFailure('C_GenerateKeyPair', error);
    }
  }
  return provenKey(token, { ckaId: id.toString('hex'), algorithm });
}

/** CKA_KEY_TYPE, and each way to say what key of it: one, save for Ed25519. */
function keyAttributes(type: SigningKeyType): [number, ...pkcs11.Template[]] {
  const named = (value: Buffer): pkcs11.Template => [{ type: pkcs11.CKA_EC_PARAMS, value }];
  switch (type) {
    case 'ed25519':
      return [ckkEcEdwards, ...edwardsParameters.map(named)];
    case 'ec-p256':
    case 'ec-p384':
      return [pkcs11.CKK_EC, named(curves[type].parameters)];
    default: {
      const modulus = { type: pkcs11.CKA_MODULUS_BITS, value: signingKeyTypes[type].bits };
      return [pkcs11.CKK_RSA, [modulus, { type: pkcs11.CKA_PUBLIC_EXPONENT, value: rsaExponent }]];
    }
  }
}

function provenKey(token: HsmToken, made: Pick<HsmKey, 'ckaId' | 'algorithm'>): HsmKey {
  const [publicKeySpki] = publicSpkis(token, made.ckaId);
  if (!publicKeySpki)
    throw new VouchError('config-hsm', 'the token made a key pair and does not show its public half');
  const key = { ...made, publicKeySpki };
  new TokenKey(token, key).prove();
  return key;
}
