import type { Serial } from '../core/serial.ts';
import { parseAlgorithmIdentifier, type SignatureAlgorithm } from './algorithm.ts';
import { CrlList } from './crl-list.ts';
import { type CrlBytes, unsplitCrl } from './crl-tbs.ts';
import { CrlEntries, type EntryTally, type ParsedRevoked } from './crl-entries.ts';
import { type CrlExtensions, readCrlExtensions } from './crl-extensions.ts';
import { tags } from './der.ts';
import { DerReader, malformed } from './der-reader.ts';
import { readExtensions } from './extensions.ts';
import { readName } from './name.ts';

/** What a TBSCertList says before its entries. */
export interface CrlOpening {
  algorithm: SignatureAlgorithm;
  /** DER Name, a view of the input. */
  issuerName: Buffer;
  thisUpdateSeconds: number;
  nextUpdateSeconds: number;
}

/** A to-be-signed CRL without its entries, which are only counted. */
export interface ParsedCrlHead extends CrlOpening, CrlExtensions {
  count: number;
  /** True where serials rise strictly, as ours do. */
  ascending: boolean;
  /** The latest revocationDate; undefined without entries. */
  newestDateSeconds: number | undefined;
  /** Entries that say `unspecified` in so many words (RFC 5280 §5.3.1 wants it left out). */
  explicitUnspecified: number;
  /** Entries with the reason removeFromCRL, which belong on delta CRLs only. */
  removals: number;
}

/** A to-be-signed CRL as its bytes say. Buffers are views of the input; entries stay bytes until asked for. */
export interface ParsedTbsCrl extends ParsedCrlHead {
  tbs: Buffer;
  /** The list itself, to be compared with that of another CRL. */
  entries: CrlEntries;
  /** Entries in their order, read from the bytes again at each call. */
  revoked(): Iterable<ParsedRevoked>;
  /** Whether this serial is on it. The first call builds an index (linear), later ones are constant time. */
  has(serial: Serial): boolean;
}

/** A whole CRL. */
export interface ParsedCrl extends ParsedTbsCrl {
  der: Buffer;
  /** Signature value as it stands in the BIT STRING, not verified. */
  signature: Buffer;
}

/** Six million entries: what is read of a CRL, in one piece or in many. */
export const crlMaxBytes = 256 * 1024 * 1024;

/**
 * Reads a DER TBSCertList (RFC 5280 §5.1.2), version 2 with nextUpdate. One pass over the entries, no object for each.
 * Throws `request-malformed`, for every entry that is not strict DER, has an impossible date or an unknown reason.
 */
export function parseTbsCrl(tbs: Buffer): ParsedTbsCrl {
  const reader = new DerReader(tbs);
  const parsed = readTbsCrl(reader);
  reader.finish('TBSCertList');
  return parsed;
}

/** Reads a DER CertificateList; the outer algorithm must equal the inner. Throws `request-malformed`. Verifies no signature. */
export function parseCrl(der: Buffer): ParsedCrl {
  const reader = new DerReader(der);
  const outer = reader.enter(tags.sequence, 'CertificateList');
  reader.finish('CertificateList');
  const parsed = readTbsCrl(outer);
  const algorithm = parseAlgorithmIdentifier(outer.element(tags.sequence, 'signatureAlgorithm'));
  if (algorithm !== parsed.algorithm)
    malformed('signatureAlgorithm differs from the signed one', outer.contentStart);
  const signature = outer.octetBits('signature');
  outer.finish('CertificateList');
  return Object.assign(parsed, { der, signature });
}

function readTbsCrl(outer: DerReader): ParsedTbsCrl {
  if (outer.bytes.length > crlMaxBytes) malformed(`CRL larger than ${crlMaxBytes} bytes`, 0);
  const start = outer.at;
  const list = outer.enter(tags.sequence, 'TBSCertList');
  const opening = readCrlOpening(list);
  const entries = new CrlEntries(
    list.tag === tags.sequence ? list.enterFilled(tags.sequence, 'revokedCertificates') : undefined,
  );
  return {
    tbs: outer.bytes.subarray(start, outer.at),
    ...crlHead(opening, entries.tally, list),
    entries,
    revoked: () => entries.all(),
    has: (serial) => entries.has(serial),
  };
}

/** Reads a TBSCertList up to nextUpdate. Throws `request-malformed`. */
export function readCrlOpening(list: DerReader): CrlOpening {
  if (list.small('version') !== 1) malformed('version is not 2', list.contentStart);
  const algorithm = parseAlgorithmIdentifier(list.element(tags.sequence, 'signature algorithm'));
  const issuerName = readIssuerName(list);
  const thisUpdateSeconds = list.time('thisUpdate');
  const nextUpdateSeconds = list.time('nextUpdate');
  return { algorithm, issuerName, thisUpdateSeconds, nextUpdateSeconds };
}

/** Reads what stands behind the entries, to the end, and puts all together. Throws `request-malformed`. */
export function crlHead(opening: CrlOpening, tally: EntryTally, list: DerReader): ParsedCrlHead {
  const wrapper = list.enter(0xa0, 'crlExtensions');
  list.finish('TBSCertList');
  const extensions = readCrlExtensions(readExtensions(wrapper));
  wrapper.finish('crlExtensions');
  const { count, ascending, newestDateSeconds, explicitUnspecified, removals } = tally;
  return {
    ...opening,
    ...extensions,
    criticalUnknown: [...extensions.criticalUnknown, ...tally.criticalUnknown],
    ...{ count, ascending, newestDateSeconds, explicitUnspecified, removals },
  };
}

function readIssuerName(list: DerReader): Buffer {
  const start = list.at;
  if (readName(list).length === 0) malformed('issuer is empty', start);
  return list.bytes.subarray(start, list.at);
}

/** A TBSCertList that is at hand in one buffer, with its entries in pieces of it. Throws `request-malformed`. */
export function splitCrl(tbs: Buffer): CrlBytes {
  const { bytes } = parseTbsCrl(tbs).entries;
  if (bytes.length === 0) return unsplitCrl(tbs);
  const start = bytes.byteOffset - tbs.byteOffset;
  return {
    head: tbs.subarray(0, start),
    list: CrlList.cut(bytes),
    tail: tbs.subarray(start + bytes.length),
  };
}
