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
  /** Where its delta CRL is (freshestCRL); undefined where it has none. */
  deltaUrl: string | undefined;
  /** Whether a serial is on it; constant time but for the first call. */
  has(serial: Serial): boolean;
}

/** A delta CRL (RFC 5280 §5.2.4) whose signature, issuer and form were checked. */
export interface VerifiedDelta extends Omit<VerifiedCrl, 'has' | 'deltaUrl'> {
  /** Number of the full CRL that it was made for; it goes with that and every later one before it. */
  baseNumber: bigint;
  /** What it says of a serial: revoked, no longer revoked, or nothing. */
  says(serial: Serial): 'revoked' | 'removed' | undefined;
}

/**
 * Checks a CRL that was fetched over plain HTTP or read from a file: signed by `issuer`, whole (a shard or a delta, validly
 * signed too, would hide revocations), and not older than one seen. Throws `integrity-crl`, or `integrity-rewind`
 * where its number is below `minimumNumber`.
 */
export function verifyCrl(crl: ParsedCrl, issuer: ParsedCertificate, minimumNumber = 0n): VerifiedCrl {
  if (crl.deltaBase !== undefined) throw refusal(issuer, 'is a delta, not the full CRL');
  const verified = verifySigned(crl, issuer, minimumNumber);
  return { ...verified, deltaUrl: crl.freshestUrls[0], has: (serial) => crl.has(serial) };
}

/** As `verifyCrl`, of a delta CRL. */
export function verifyDelta(crl: ParsedCrl, issuer: ParsedCertificate, minimumNumber = 0n): VerifiedDelta {
  const baseNumber = crl.deltaBase;
  if (baseNumber === undefined) throw refusal(issuer, 'is the full CRL, not a delta');
  const verified = verifySigned(crl, issuer, minimumNumber);
  const entries = new Map<string, 'revoked' | 'removed'>();
  for (const { serial, reason } of crl.revoked())
    entries.set(serial, reason === 'removeFromCRL' ? 'removed' : 'revoked');
  return { ...verified, baseNumber, says: (serial) => entries.get(serial) };
}

/** True where a delta brings a full CRL up to its own date: base ≤ full < delta (RFC 5280 §5.2.4). */
function goesWith(delta: VerifiedDelta, full: VerifiedCrl): boolean {
  return delta.baseNumber <= full.crlNumber && full.crlNumber < delta.crlNumber;
}

/** What both say together; the full CRL alone where the delta does not go with it. */
export function withDelta(full: VerifiedCrl, delta: VerifiedDelta | undefined): VerifiedCrl {
  if (delta === undefined || !goesWith(delta, full)) return full;
  const { crlNumber, thisUpdateMs } = delta;
  const nextUpdateMs = Math.max(full.nextUpdateMs, delta.nextUpdateMs);
  const has = (serial: Serial): boolean => {
    const said = delta.says(serial);
    return said === undefined ? full.has(serial) : said === 'revoked';
  };
  return { ...full, crlNumber, thisUpdateMs, nextUpdateMs, has };
}

function verifySigned(crl: ParsedCrl, issuer: ParsedCertificate, minimumNumber: bigint) {
  const issuerKeyId = keyIdOf(issuer.spki);
  const refuse = (why: string): VouchError => refusal(issuer, why);
  if (!crl.issuerName.equals(issuer.subjectName)) throw refuse('names another issuer');
  if (crl.authorityKeyId !== issuerKeyId) throw refuse('names another key');
  if (!issuer.keyUsage?.cRLSign) throw refuse('is from a CA that may not sign CRLs');
  if (!verifySignature(crl.algorithm, importPublicKey(issuer.spki).key, crl.tbs, crl.signature))
    throw refuse('has a wrong signature');
  if (crl.idp !== undefined) throw refuse('is a shard, not the full CRL');
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
  };
}

function refusal(issuer: ParsedCertificate, why: string): VouchError {
  return new VouchError('integrity-crl', `the CRL of issuer ${keyIdOf(issuer.spki)} ${why}; it is not used`);
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
