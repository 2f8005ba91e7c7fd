import pkcs11 from 'pkcs11js';
import type { SignatureAlgorithm } from '../../x509/algorithm.ts';
import { signingKeyTypeNames, signingKeyTypes } from '../../x509/signing-key-type.ts';
import type { KeyTypeProblems } from '../key-types.ts';
import { ckmEcEdwardsKeyPairGen, ckmEddsa } from './attributes.ts';
import type { HsmToken } from './token.ts';

/** SHA-256, MGF1 with SHA-256, salt of 32 bytes: what `algorithmIdentifier` says in certificates. */
const pssParameters: pkcs11.RsaPSS = {
  type: pkcs11.CK_PARAMS_RSA_PSS,
  hashAlg: pkcs11.CKM_SHA256,
  mgf: pkcs11.CKG_MGF1_SHA256,
  saltLen: 32,
};

/** A mechanism by number and name; the name is for those who look into a token's manual. */
type Named = pkcs11.Mechanism & { name: string };

/** The mechanism that C_SignInit takes for each algorithm, on what `signingMethods` prepared. */
export const mechanisms: Readonly<Record<SignatureAlgorithm, Named>> = {
  'ecdsa-sha256': { name: 'CKM_ECDSA', mechanism: pkcs11.CKM_ECDSA },
  'ecdsa-sha384': { name: 'CKM_ECDSA', mechanism: pkcs11.CKM_ECDSA },
  ed25519: { name: 'CKM_EDDSA', mechanism: ckmEddsa },
  'rsa-pkcs1-sha256': { name: 'CKM_RSA_PKCS', mechanism: pkcs11.CKM_RSA_PKCS },
  'rsa-pss-sha256': {
    name: 'CKM_RSA_PKCS_PSS',
    mechanism: pkcs11.CKM_RSA_PKCS_PSS,
    parameter: pssParameters,
  },
};

const ecPairs = { name: 'CKM_EC_KEY_PAIR_GEN', mechanism: pkcs11.CKM_EC_KEY_PAIR_GEN };
const rsaPairs = { name: 'CKM_RSA_PKCS_KEY_PAIR_GEN', mechanism: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN };

/** The mechanism of C_GenerateKeyPair for the keys of each algorithm. */
export const pairMechanisms: Readonly<Record<SignatureAlgorithm, Named>> = {
  'ecdsa-sha256': ecPairs,
  'ecdsa-sha384': ecPairs,
  ed25519: { name: 'CKM_EC_EDWARDS_KEY_PAIR_GEN', mechanism: ckmEcEdwardsKeyPairGen },
  'rsa-pkcs1-sha256': rsaPairs,
  'rsa-pss-sha256': rsaPairs,
};

/** Largest signature of any algorithm: RSA-4096 has 512 bytes. */
export const signatureMaxBytes = 1024;

/** Why the token does not sign so with a key of `bits`; undefined where it says that it does. */
export function signingProblem(
  token: HsmToken,
  algorithm: SignatureAlgorithm,
  bits: number,
): string | undefined {
  return mechanismProblem(token, mechanisms[algorithm], { bits, flag: pkcs11.CKF_SIGN });
}

/** What the token says of each type of key: whether it makes it and signs with it. */
export function keyTypeProblems(token: HsmToken): KeyTypeProblems {
  const problems: KeyTypeProblems = {};
  for (const type of signingKeyTypeNames) {
    const { algorithm, bits } = signingKeyTypes[type];
    const makes = { bits, flag: pkcs11.CKF_GENERATE_KEY_PAIR };
    const problem =
      mechanismProblem(token, pairMechanisms[algorithm], makes) ?? signingProblem(token, algorithm, bits);
    if (problem !== undefined) problems[type] = problem;
  }
  return problems;
}

function mechanismProblem(
  token: HsmToken,
  { mechanism, name }: Named,
  use: { bits: number; flag: number },
): string | undefined {
  if (!token.mechanisms().includes(mechanism)) return `it has no ${name}`;
  const info = token.mechanismInfo(mechanism);
  // What a token does not say here, its first signature shows.
  if (!info) return undefined;
  if (info.flags !== 0 && (info.flags & use.flag) === 0) return `its ${name} is for another use`;
  const { minKeySize, maxKeySize } = info;
  // Field sizes of one curve are 255 or 256 bits, as one counts.
  const fits = maxKeySize === 0 || (minKeySize <= use.bits + 1 && use.bits <= maxKeySize);
  return fits ? undefined : `its ${name} takes keys of ${minKeySize} to ${maxKeySize} bits, not ${use.bits}`;
}
