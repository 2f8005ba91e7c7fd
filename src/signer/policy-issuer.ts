import { VouchError } from '../core/errors.ts';
import { algorithmsOf, type SignatureAlgorithm } from '../x509/algorithm.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { importPublicKey } from '../x509/public-key.ts';
import type { AuthorityIssuer } from './authority-file.ts';

/** An issuer as the policy compares with it; all of it from the issuer's own certificate. */
export interface PolicyIssuer {
  keyId: string;
  ckaId: string;
  algorithm: SignatureAlgorithm;
  /** DER Name: what stands as issuer in all that it signs. */
  nameDer: Buffer;
  notAfterMs: number;
  /** DER SubjectPublicKeyInfo. */
  spki: Buffer;
}

/**
 * Takes an issuer's name, key and validity from its certificate. Throws `config-state` where the certificate is not one
 * of a CA or is another key's.
 */
export function policyIssuer(issuer: AuthorityIssuer): PolicyIssuer {
  const { keyId, ckaId, algorithm } = issuer;
  try {
    const { basicConstraints, spki, subjectName, notAfterMs } = parseCertificate(issuer.certificateDer);
    if (!basicConstraints?.isCa) throw new Error('no CA certificate');
    const key = importPublicKey(spki);
    if (key.keyId !== keyId) throw new Error('key id is another');
    if (!algorithmsOf(key.type).includes(algorithm))
      throw new Error(`a ${key.type} key does not sign by ${algorithm}`);
    return { keyId, ckaId, algorithm, nameDer: subjectName, notAfterMs, spki };
  } catch (cause) {
    throw new VouchError('config-state', `authority.json holds no usable certificate for issuer ${keyId}`, {
      cause,
    });
  }
}
