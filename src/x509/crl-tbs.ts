import { assert } from '../core/errors.ts';
import { type Reason, reasonCodes } from '../core/reasons.ts';
import { type Serial, serialBytes } from '../core/serial.ts';
import { algorithmIdentifier, type SignatureAlgorithm } from './algorithm.ts';
import {
  asciiBytes,
  boolean,
  explicit,
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
  /** What `encodeRevoked` gave, in serial order; taken as it is. */
  revoked: readonly Buffer[];
}

/** One entry of revokedCertificates. `unspecified` is said by leaving the reason out (RFC 5280 §5.3.1). */
export function encodeRevoked(revoked: { serial: Serial; dateSeconds: number; reason: Reason }): Buffer {
  const serial = integer(serialBytes(revoked.serial));
  const date = time(revoked.dateSeconds);
  return revoked.reason === 'unspecified'
    ? sequence(serial, date)
    : sequence(serial, date, reasonExtensions[revoked.reason]);
}

/**
 * DER TBSCertList, version 2 (RFC 5280 §5.1.2); revokedCertificates left out where there are none (§5.1.2.6). Each
 * entry is copied once, straight into the result.
 */
export function buildCrlTbs(template: CrlTemplate): Buffer {
  const head = [
    integer(1n),
    algorithmIdentifier(template.algorithm),
    template.issuerName,
    time(template.thisUpdateSeconds),
    time(template.nextUpdateSeconds),
  ];
  const tail = explicit(0, sequence(...extensionsOf(template)));
  const listLength = totalLength(template.revoked);
  const listSize = listLength === 0 ? 0 : 1 + lengthSize(listLength) + listLength;
  const length = totalLength(head) + listSize + tail.length;
  const out = Buffer.allocUnsafeSlow(1 + lengthSize(length) + length);
  let at = copyAll(out, writeHeader(out, 0, tags.sequence, length), head);
  if (listSize > 0) at = copyAll(out, writeHeader(out, at, tags.sequence, listLength), template.revoked);
  copyAll(out, at, [tail]);
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
  if (template.idpUrl !== undefined) extensions.push(issuingDistributionPoint(template.idpUrl));
  return extensions;
}

function issuingDistributionPoint(url: string): Buffer {
  const name = explicit(0, explicit(0, implicit(6, asciiBytes(url))));
  const onlyContainsUserCerts = implicit(1, Buffer.from([0xff]));
  return sequence(
    oid(oids.issuingDistributionPoint),
    boolean(true),
    octetString(sequence(name, onlyContainsUserCerts)),
  );
}

const reasonExtensions = Object.fromEntries(
  Object.entries(reasonCodes).map(([reason, code]) => [
    reason,
    sequence(sequence(oid(oids.reasonCode), octetString(Buffer.from([tags.enumerated, 1, code])))),
  ]),
) as Record<Reason, Buffer>;

function totalLength(parts: readonly Buffer[]): number {
  let length = 0;
  for (const part of parts) length += part.length;
  return length;
}

function copyAll(out: Buffer, offset: number, parts: readonly Buffer[]): number {
  let at = offset;
  for (const part of parts) for (let i = 0; i < part.length; i++) out[at++] = part[i] ?? 0;
  return at;
}
