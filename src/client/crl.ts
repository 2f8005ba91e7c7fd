import { VouchError } from '../core/errors.ts';
import type { Serial } from '../core/serial.ts';
import { verifySignature } from '../x509/algorithm.ts';
import type { ParsedCertificate } from '../x509/certificate.ts';
import { type ParsedCrl, parseCrl } from '../x509/crl.ts';
import { importPublicKey, keyIdOf } from '../x509/public-key.ts';

/** A full CRL whose signature, issuer and form were checked; its freshness is asked when it is used. */
export interface VerifiedCrl {
  /** Key id of the CA that signed it, 40 hex characters. */
  issuerKeyId: string;
  crlNumber: bigint;
  thisUpdateMs: number;
  nextUpdateMs: number;
  der: Buffer;
  /** Whether a serial is on it; constant time but for the first call. */
  has(serial: Serial): boolean;
}

/**
 * Checks a CRL that was fetched over plain HTTP or read from a file: signed by `issuer`, whole (a shard or a delta, validly
 * signed too, would hide revocations), and not older than one seen. Throws `integrity-crl`, or `integrity-rewind`
 * where its number is below `minimumNumber`.
 */
export function verifyCrl(crl: ParsedCrl, issuer: ParsedCertificate, minimumNumber = 0n): VerifiedCrl {
  const issuerKeyId = keyIdOf(issuer.spki);
  const refuse = (why: string): VouchError =>
    new VouchError('integrity-crl', `the CRL of issuer ${issuerKeyId} ${why}; it is not used`);
  if (!crl.issuerName.equals(issuer.subjectName)) throw refuse('names another issuer');
  if (crl.authorityKeyId !== issuerKeyId) throw refuse('names another key');
  if (!issuer.keyUsage?.cRLSign) throw refuse('is from a CA that may not sign CRLs');
  if (!verifySignature(crl.algorithm, importPublicKey(issuer.spki).key, crl.tbs, crl.signature))
    throw refuse('has a wrong signature');
  if (crl.idp !== undefined) throw refuse('is a shard, not the full CRL');
  if (crl.deltaBase !== undefined) throw refuse('is a delta, not the full CRL');
  if (crl.criticalUnknown.length > 0) throw refuse('has a critical extension that is not understood');
  if (crl.crlNumber === undefined) throw refuse('has no CRL number');
  if (crl.crlNumber < minimumNumber)
    throw new VouchError(
      'integrity-rewind',
      `the CRL of issuer ${issuerKeyId} has number ${crl.crlNumber}, below ${minimumNumber} seen before: an old one was served; it is not used`,
    );
  return {
    issuerKeyId,
    crlNumber: crl.crlNumber,
    thisUpdateMs: crl.thisUpdateSeconds * 1000,
    nextUpdateMs: crl.nextUpdateSeconds * 1000,
    der: crl.der,
    has: (serial) => crl.has(serial),
  };
}

/** True while the CRL may be relied on: not past its nextUpdate, and at most `skewMs` from the future. */
export function isFresh(crl: VerifiedCrl, nowMs: number, skewMs = 0): boolean {
  return nowMs < crl.nextUpdateMs && crl.thisUpdateMs <= nowMs + skewMs;
}

/** Parses a CRL from outside. Throws `integrity-crl`. */
export function readCrl(der: Buffer): ParsedCrl {
  try {
    return parseCrl(der);
  } catch (cause) {
    throw new VouchError('integrity-crl', 'what was read as a CRL is not one; it is not used', { cause });
  }
}
