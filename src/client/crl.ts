import { VouchError } from '../core/errors.ts';
import type { Serial } from '../core/serial.ts';
import { Slice } from '../jobs/slice.ts';
import { parseAlgorithmIdentifier, verifySignatureOfChunks } from '../x509/algorithm.ts';
import type { ParsedCertificate } from '../x509/certificate.ts';
import { type ParsedCrl, type ParsedCrlHead, parseCrl } from '../x509/crl.ts';
import { CrlIndex } from '../x509/crl-index.ts';
import { entriesOf } from '../x509/crl-patch.ts';
import { CrlStreamReader } from '../x509/crl-stream.ts';
import { tags } from '../x509/der.ts';
import { DerReader } from '../x509/der-reader.ts';
import { signedBy } from '../x509/path.ts';
import { importPublicKey, keyIdOf } from '../x509/public-key.ts';

/** Bytes that are read between two looks at the clock. */
const readAtOnce = 128 * 1024;

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

/**
 * As `verifyCrl`, of a large one that need not be known before its time: read, verified and made searchable while others have
 * their turns. Throws `integrity-crl` or `integrity-rewind`, too.
 */
export async function verifyLargeCrl(
  der: Buffer,
  issuer: ParsedCertificate,
  minimumNumber = 0n,
): Promise<VerifiedCrl> {
  const { head, algorithm, tbs, signature } = await readInSlices(der).catch((cause: unknown) => {
    throw new VouchError('integrity-crl', 'what was read as a CRL is not one; it is not used', { cause });
  });
  checkSigner(head, issuer);
  const key = importPublicKey(issuer.spki).key;
  if (algorithm !== head.algorithm || !(await verifySignatureOfChunks(algorithm, key, [tbs], signature)))
    throw refusal(issuer, 'has a wrong signature');
  if (head.deltaBase !== undefined) throw refusal(issuer, 'is a delta, not the full CRL');
  const checked = checkHead(head, issuer, minimumNumber);
  if (!head.ascending) return verifyCrl(readCrl(der), issuer, minimumNumber);
  const index = new CrlIndex(der, ...entriesOf(der));
  const slice = new Slice();
  while (index.step()) if (slice.isOver) await slice.turn();
  return { ...checked, der, deltaUrl: head.freshestUrls[0], has: (serial) => index.has(serial) };
}

/** The parts of a CertificateList, its TBSCertList read. */
async function readInSlices(der: Buffer) {
  const whole = new DerReader(der);
  const outer = whole.enter(tags.sequence, 'CertificateList');
  whole.finish('CertificateList');
  const tbs = outer.element(tags.sequence, 'TBSCertList');
  const algorithm = parseAlgorithmIdentifier(outer.element(tags.sequence, 'signatureAlgorithm'));
  const signature = outer.octetBits('signature');
  outer.finish('CertificateList');
  const reader = new CrlStreamReader();
  const slice = new Slice();
  for (let at = 0; at < tbs.length; at += readAtOnce) {
    reader.push(tbs.subarray(at, at + readAtOnce));
    if (slice.isOver) await slice.turn();
  }
  return { head: reader.end(), algorithm, tbs, signature };
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
  checkSigner(crl, issuer);
  if (!signedBy(crl, issuer)) throw refusal(issuer, 'has a wrong signature');
  return { ...checkHead(crl, issuer, minimumNumber), der: crl.der };
}

function checkSigner(crl: ParsedCrlHead, issuer: ParsedCertificate): void {
  if (!crl.issuerName.equals(issuer.subjectName)) throw refusal(issuer, 'names another issuer');
  if (crl.authorityKeyId !== keyIdOf(issuer.spki)) throw refusal(issuer, 'names another key');
  if (!issuer.keyUsage?.cRLSign) throw refusal(issuer, 'is from a CA that may not sign CRLs');
}

/** What a CRL says besides its entries, once its signature is verified. */
function checkHead(crl: ParsedCrlHead, issuer: ParsedCertificate, minimumNumber: bigint) {
  const issuerKeyId = keyIdOf(issuer.spki);
  const refuse = (why: string): VouchError => refusal(issuer, why);
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
