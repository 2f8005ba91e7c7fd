import { assert } from '../core/errors.ts';
import { type Reason, reasonCodes } from '../core/reasons.ts';
import { serialBytes } from '../core/serial.ts';
import { algorithmIdentifier, type SignatureAlgorithm } from './algorithm.ts';
import type { ParsedRevoked } from './crl-entries.ts';
import { CrlList } from './crl-list.ts';
import {
  asciiBytes,
  bitString,
  boolean,
  explicit,
  generalizedTime,
  implicit,
  integer,
  lengthSize,
  octetString,
  oid,
  sequence,
  tags,
  time,
  writeHeader,
} from './der.ts';
import { oids } from './oids.ts';

/** Everything a CRL says. */
export interface CrlTemplate {
  algorithm: SignatureAlgorithm;
  /** DER Name, the issuer's subject byte for byte. */
  issuerName: Buffer;
  thisUpdateSeconds: number;
  nextUpdateSeconds: number;
  /** Hex. */
  authorityKeyId: string;
  crlNumber: bigint;
  /** URL of a shard: a critical issuingDistributionPoint with onlyContainsUserCerts; must equal the CDP (RFC 5280 §5.2.5). */
  idpUrl?: string | undefined;
  /** Number of the full CRL that a delta goes with: makes it one (RFC 5280 §5.2.4). */
  deltaBase?: bigint | undefined;
  /** URL of the delta CRL, on a full one (RFC 5280 §5.2.6). */
  freshestUrl?: string | undefined;
  /** What `encodeRevoked` gave, in serial order; taken as it is. */
  revoked: readonly Buffer[] | CrlList;
}

/** A TBSCertList or a whole CertificateList: what stands before its entries, the entries, what stands behind them. */
export interface CrlBytes {
  readonly head: Buffer;
  readonly list: CrlList;
  readonly tail: Buffer;
}

/** The bytes in their order, nothing joined. */
export function crlChunks({ head, list, tail }: CrlBytes): Buffer[] {
  const chunks = [head, ...list.pieces.map(({ bytes }) => bytes), tail];
  return chunks.filter(({ length }) => length > 0);
}

/** How many bytes they are. */
export function crlLength({ head, list, tail }: CrlBytes): number {
  return head.length + list.byteLength + tail.length;
}

/** All in one buffer: for a CRL that is known to be small. */
export function joinedCrl(bytes: CrlBytes): Buffer {
  return Buffer.concat(crlChunks(bytes), crlLength(bytes));
}

/** A small one whose bytes are at hand in one buffer: all in the head. */
export function unsplitCrl(bytes: Buffer): CrlBytes {
  return { head: bytes, list: CrlList.empty, tail: Buffer.alloc(0) };
}

/** CertificateList: a TBSCertList with its signature (DER as it stands in the BIT STRING). */
export function wholeCrl(tbs: CrlBytes, algorithm: SignatureAlgorithm, signature: Buffer): CrlBytes {
  const end = [algorithmIdentifier(algorithm), bitString(signature)];
  const length = crlLength(tbs) + totalLength(end);
  return {
    head: Buffer.concat([header(length), tbs.head]),
    list: tbs.list,
    tail: Buffer.concat([tbs.tail, ...end]),
  };
}

/** One entry of revokedCertificates. `unspecified` is said by leaving the reason out (RFC 5280 §5.3.1). */
export function encodeRevoked(revoked: ParsedRevoked): Buffer {
  const { reason, invalidityDateSeconds } = revoked;
  const serial = integer(serialBytes(revoked.serial));
  const date = time(revoked.dateSeconds);
  if (invalidityDateSeconds === undefined)
    return reason === 'unspecified'
      ? sequence(serial, date)
      : sequence(serial, date, sequence(reasonExtensions[reason]));
  const invalidity = sequence(oid(oids.invalidityDate), octetString(generalizedTime(invalidityDateSeconds)));
  const extensions = reason === 'unspecified' ? [invalidity] : [reasonExtensions[reason], invalidity];
  return sequence(serial, date, sequence(...extensions));
}

/** DER TBSCertList of a small CRL, in one buffer. */
export function buildCrlTbs(template: CrlTemplate): Buffer {
  return joinedCrl(buildCrl(template));
}

/**
 * DER TBSCertList, version 2 (RFC 5280 §5.1.2); revokedCertificates left out where there are none (§5.1.2.6). No entry
 * is copied.
 */
export function buildCrl(template: CrlTemplate): CrlBytes {
  const list = template.revoked instanceof CrlList ? template.revoked : CrlList.of(template.revoked);
  const start = [
    integer(1n),
    algorithmIdentifier(template.algorithm),
    template.issuerName,
    time(template.thisUpdateSeconds),
    time(template.nextUpdateSeconds),
    ...(list.count > 0 ? [header(list.byteLength)] : []),
  ];
  const tail = explicit(0, sequence(...extensionsOf(template)));
  const length = totalLength(start) + list.byteLength + tail.length;
  return { head: Buffer.concat([header(length), ...start]), list, tail };
}

/** Tag and length of a SEQUENCE with so much content. */
function header(contentLength: number): Buffer {
  const out = Buffer.alloc(1 + lengthSize(contentLength));
  writeHeader(out, 0, tags.sequence, contentLength);
  return out;
}

/** RFC 5280 §5.2.3: at most 20 octets, the highest bit of which is the sign. */
const crlNumberLimit = 1n << 159n;

function extensionsOf(template: CrlTemplate): Buffer[] {
  assert(template.crlNumber < crlNumberLimit, 'CRL number fits 20 octets');
  assert(/^(?:[0-9a-f]{2})+$/.test(template.authorityKeyId), 'key id is hex');
  const keyId = Buffer.from(template.authorityKeyId, 'hex');
  const extensions = [
    sequence(oid(oids.authorityKeyIdentifier), octetString(sequence(implicit(0, keyId)))),
    sequence(oid(oids.crlNumber), octetString(integer(template.crlNumber))),
  ];
  if (template.deltaBase !== undefined)
    extensions.push(
      sequence(oid(oids.deltaCrlIndicator), boolean(true), octetString(integer(template.deltaBase))),
    );
  if (template.idpUrl !== undefined) extensions.push(issuingDistributionPoint(template.idpUrl));
  if (template.freshestUrl !== undefined)
    extensions.push(
      sequence(oid(oids.freshestCrl), octetString(sequence(sequence(fullName(template.freshestUrl))))),
    );
  return extensions;
}

/** DistributionPointName with a URL, as the [0] of a point. */
function fullName(url: string): Buffer {
  return explicit(0, explicit(0, implicit(6, asciiBytes(url))));
}

function issuingDistributionPoint(url: string): Buffer {
  const onlyContainsUserCerts = implicit(1, Buffer.from([0xff]));
  return sequence(
    oid(oids.issuingDistributionPoint),
    boolean(true),
    octetString(sequence(fullName(url), onlyContainsUserCerts)),
  );
}

const reasonExtensions = Object.fromEntries(
  Object.entries(reasonCodes).map(([reason, code]) => [
    reason,
    sequence(oid(oids.reasonCode), octetString(Buffer.from([tags.enumerated, 1, code]))),
  ]),
) as Record<Reason, Buffer>;

function totalLength(parts: readonly Buffer[]): number {
  let length = 0;
  for (const part of parts) length += part.length;
  return length;
}
