import type { Serial } from '../core/serial.ts';
import { parseAlgorithmIdentifier, type SignatureAlgorithm } from './algorithm.ts';
import { type CertificateExtensions, readCertificateExtensions } from './certificate-extensions.ts';
import { tags } from './der.ts';
import { checkDer, DerReader, malformed } from './der-reader.ts';
import { readExtensions } from './extensions.ts';
import { readName } from './name.ts';

/** A to-be-signed certificate as its bytes say. Buffers are views of the input. */
export interface ParsedTbs extends CertificateExtensions {
  serial: Serial;
  algorithm: SignatureAlgorithm;
  /** DER Name. */
  issuerName: Buffer;
  /** DER Name. */
  subjectName: Buffer;
  notBeforeMs: number;
  /** The second it names still counts (RFC 5280 §4.1.2.5). */
  notAfterMs: number;
  /** DER SubjectPublicKeyInfo; `importPublicKey` says whether the key in it is one. */
  spki: Buffer;
}

/** A whole certificate. */
export interface ParsedCertificate extends ParsedTbs {
  der: Buffer;
  tbs: Buffer;
  /** Signature value as it stands in the BIT STRING, not verified. */
  signature: Buffer;
}

/** A leaf of the log, which holds one, has at most 65,535 bytes. */
const certificateMaxBytes = 65_535;

/** A serial has at most 20 octets (RFC 5280 §4.1.2.2). */
const serialMaxBytes = 20;

/**
 * Reads a DER TBSCertificate (RFC 5280 §4.1), version 3 only, strictly: what is not in the one DER form, stands twice,
 * is empty where it must not be or has a time that does not exist is refused with `request-malformed`.
 */
export function parseTbsCertificate(tbs: Buffer): ParsedTbs {
  refuseLarge(tbs);
  checkDer(tbs);
  const reader = new DerReader(tbs);
  const parsed = readTbs(reader);
  reader.finish('TBSCertificate');
  return parsed;
}

/** Reads a DER Certificate; the outer algorithm must equal the inner. Throws `request-malformed`. Verifies no signature. */
export function parseCertificate(der: Buffer): ParsedCertificate {
  refuseLarge(der);
  checkDer(der);
  const outer = new DerReader(der).enter(tags.sequence, 'Certificate');
  const start = outer.at;
  const parsed = readTbs(outer);
  const tbs = der.subarray(start, outer.at);
  const algorithm = parseAlgorithmIdentifier(outer.element(tags.sequence, 'signatureAlgorithm'));
  if (algorithm !== parsed.algorithm)
    malformed('signatureAlgorithm differs from the signed one', outer.contentStart);
  const signature = outer.octetBits('signature');
  outer.finish('Certificate');
  return { ...parsed, der, tbs, signature };
}

function readTbs(reader: DerReader): ParsedTbs {
  const tbs = reader.enter(tags.sequence, 'TBSCertificate');
  const version = tbs.enter(0xa0, 'version');
  if (version.small('version') !== 2) malformed('version is not 3', version.contentStart);
  version.finish('version');
  const serial = readSerial(tbs);
  const algorithm = parseAlgorithmIdentifier(tbs.element(tags.sequence, 'signature algorithm'));
  const issuerName = nameElement(tbs);
  if (issuerName.length === 2) malformed('issuer is empty', tbs.at);
  const validity = tbs.enter(tags.sequence, 'validity');
  const notBeforeMs = validity.time('notBefore') * 1000;
  const notAfterMs = validity.time('notAfter') * 1000;
  validity.finish('validity');
  const subjectName = nameElement(tbs);
  const spki = spkiElement(tbs);
  const wrapper = tbs.enter(0xa3, 'extensions');
  tbs.finish('TBSCertificate');
  const extensions = readCertificateExtensions(readExtensions(wrapper));
  wrapper.finish('extensions');
  return { serial, algorithm, issuerName, subjectName, notBeforeMs, notAfterMs, spki, ...extensions };
}

function readSerial(tbs: DerReader): Serial {
  const bytes = tbs.unsigned(serialMaxBytes, 'serial number');
  if (bytes.length === 1 && bytes[0] === 0) malformed('serial number is zero', tbs.contentStart);
  return bytes.toString('hex') as Serial;
}

/** The bytes of a Name whose structure was read. */
function nameElement(tbs: DerReader): Buffer {
  const start = tbs.at;
  readName(tbs);
  return tbs.bytes.subarray(start, tbs.at);
}

/** The bytes of a SubjectPublicKeyInfo whose structure was read; whether the key is one, `importPublicKey` says. */
function spkiElement(tbs: DerReader): Buffer {
  const start = tbs.at;
  const info = tbs.enter(tags.sequence, 'subjectPublicKeyInfo');
  const algorithm = info.enter(tags.sequence, 'key algorithm');
  algorithm.oid('key algorithm');
  if (algorithm.tag === tags.oid) algorithm.oid('key parameters');
  else if (algorithm.tag === tags.sequence || algorithm.tag === tags.null) algorithm.skip('key parameters');
  algorithm.finish('key algorithm');
  info.octetBits('key');
  info.finish('subjectPublicKeyInfo');
  return tbs.bytes.subarray(start, tbs.at);
}

function refuseLarge(der: Buffer): void {
  if (der.length > certificateMaxBytes) malformed(`certificate larger than ${certificateMaxBytes} bytes`, 0);
}
