import pkcs11 from 'pkcs11js';
import type { SignatureAlgorithm } from '../../x509/algorithm.ts';
import { ckmEddsa } from './attributes.ts';

/** SHA-256, MGF1 with SHA-256, salt of 32 bytes: what `algorithmIdentifier` says in certificates. */
const pssParameters: pkcs11.RsaPSS = {
  type: pkcs11.CK_PARAMS_RSA_PSS,
  hashAlg: pkcs11.CKM_SHA256,
  mgf: pkcs11.CKG_MGF1_SHA256,
  saltLen: 32,
};

/** The mechanism that C_SignInit takes for each algorithm, on what `signingMethods` prepared. */
export const mechanisms: Readonly<Record<SignatureAlgorithm, pkcs11.Mechanism>> = {
  'ecdsa-sha256': { mechanism: pkcs11.CKM_ECDSA },
  'ecdsa-sha384': { mechanism: pkcs11.CKM_ECDSA },
  ed25519: { mechanism: ckmEddsa },
  'rsa-pkcs1-sha256': { mechanism: pkcs11.CKM_RSA_PKCS },
  'rsa-pss-sha256': { mechanism: pkcs11.CKM_RSA_PKCS_PSS, parameter: pssParameters },
};

/** Largest signature of any algorithm: RSA-4096 has 512 bytes. */
export const signatureMaxBytes = 1024;
