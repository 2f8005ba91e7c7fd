import type { KeyObject } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import {
  algorithmsOf,
  type SignatureAlgorithm,
  verifySignature,
  verifySignatureOfChunks,
} from '../x509/algorithm.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { importPublicKey, type KeyType } from '../x509/public-key.ts';

/** A root or issuer as its certificate says. */
export interface CaCertificate {
  /** RFC 7093 method 1, 40 hex; also its certificates' AKI and the name of its URLs. */
  keyId: string;
  certificateDer: Buffer;
  /** Its subject as DER Name, copied byte for byte into what it issues. */
  issuerName: Buffer;
  notAfterMs: number;
  keyType: KeyType;
  publicKey: KeyObject;
}

/** An authority with what it signs by, so that issuance need not parse anything each time. */
export interface Issuer extends CaCertificate {
  algorithm: SignatureAlgorithm;
}

/** Reads a CA's certificate. Throws the readers' `request-…`. */
export function caOf(certificateDer: Buffer): CaCertificate {
  const certificate = parseCertificate(certificateDer);
  const info = importPublicKey(certificate.spki);
  return {
    keyId: info.keyId,
    certificateDer,
    issuerName: certificate.subjectName,
    notAfterMs: certificate.notAfterMs,
    keyType: info.type,
    publicKey: info.key,
  };
}

/**
 * An authority from its record. The algorithm stands there, since an RSA key does not say which of its two it signs by.
 * Throws `integrity-state` for one that its key cannot have.
 */
export function issuerOf({
  certificateDer,
  algorithm,
}: Pick<Issuer, 'certificateDer' | 'algorithm'>): Issuer {
  const ca = caOf(certificateDer);
  if (!algorithmsOf(ca.keyType).includes(algorithm))
    throw new VouchError(
      'integrity-state',
      `authority ${ca.keyId} has a ${ca.keyType} key and signs by ${algorithm}`,
    );
  return { ...ca, algorithm };
}

/** True where the signature value verifies over the bytes with the issuer's key (I3). */
export function signedBy(issuer: Issuer, signed: Buffer, signature: Buffer): boolean {
  return verifySignature(issuer.algorithm, issuer.publicKey, signed, signature);
}

/** The same over the bytes of chunks, one behind the other; takes as long as it takes, and holds nobody up. */
export function chunksSignedBy(
  issuer: Issuer,
  chunks: Iterable<Buffer>,
  signature: Buffer,
): Promise<boolean> {
  return verifySignatureOfChunks(issuer.algorithm, issuer.publicKey, chunks, signature);
}
