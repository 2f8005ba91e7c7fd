import type { KeyObject } from 'node:crypto';
import { type SignatureAlgorithm, signatureAlgorithmOf, verifySignature } from '../x509/algorithm.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { importPublicKey } from '../x509/public-key.ts';

/** An active issuer: its certificate, and what issuance needs of it without parsing it each time. */
export interface Issuer {
  /** RFC 7093 method 1, 40 hex; also its certificates' AKI and the name of its URLs. */
  keyId: string;
  certificateDer: Buffer;
  /** Its subject as DER Name, copied byte for byte into what it issues. */
  issuerName: Buffer;
  notAfterMs: number;
  algorithm: SignatureAlgorithm;
  publicKey: KeyObject;
}

/** Reads an issuer from its certificate. The algorithm follows from the key type. */
export function issuerOf(certificateDer: Buffer): Issuer {
  const certificate = parseCertificate(certificateDer);
  const info = importPublicKey(certificate.spki);
  return {
    keyId: info.keyId,
    certificateDer,
    issuerName: certificate.subjectName,
    notAfterMs: certificate.notAfterMs,
    algorithm: signatureAlgorithmOf(info.type),
    publicKey: info.key,
  };
}

/** True where the signature value verifies over the bytes with the issuer's key (I3). */
export function signedBy(issuer: Issuer, signed: Buffer, signature: Buffer): boolean {
  return verifySignature(issuer.algorithm, issuer.publicKey, signed, signature);
}
