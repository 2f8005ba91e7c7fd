import { hash } from 'node:crypto';
import { canonicalJson, type Json } from '../core/canonical-json.ts';
import { assert, VouchError } from '../core/errors.ts';
import { type Reason, reasonCodes, reasonOfCode } from '../core/reasons.ts';
import { parseSerial, type Serial, serialBytes } from '../core/serial.ts';

/** Leaf types with the byte that stands for each (docs/log-format.md). */
export const leafTypes = {
  certificate: 1,
  revocation: 2,
  release: 3,
  crl: 4,
  token: 5,
  entry: 6,
  authority: 7,
  operator: 8,
} as const;

/** What a leaf records. */
export type LeafType = keyof typeof leafTypes;

/** One record of the log; its bytes are laid out in docs/log-format.md. */
export interface Leaf {
  type: LeafType;
  /** Unix milliseconds. */
  timeMs: number;
  /** 40 lower-case hex characters, or '' where no issuer is concerned; never '' for the first four types. */
  issuerKeyId: string;
  /** By type: a DER TBSCertificate, a fixed binary body, or canonical JSON; 1 to 65,470 bytes. */
  body: Buffer;
  /** 32 bytes, see `decisionContext`. */
  context: Buffer;
}

/** Most bytes of a leaf: a C2SP entry bundle has two bytes for the length. */
export const leafMaxBytes = 65_535;

/** A revocation, or with reason `removeFromCRL` the release of a hold. */
export interface RevocationBody {
  serial: Serial;
  reason: Reason;
  revokedAtMs: number;
  /** Since when the key may have been in other hands, Unix seconds, where that was said. */
  invalidityDateSeconds?: number | undefined;
}

/** A CRL by its scope (`full` or a shard's number), number and SHA-256 of its DER TBSCertList. */
export interface CrlBody {
  scope: string;
  crlNumber: bigint;
  tbsSha256: Buffer;
}

const version = 1;
const contextBytes = 32;
const issuerTypes: readonly LeafType[] = ['certificate', 'revocation', 'release', 'crl'];
const scopeGrammar = /^[a-z0-9-]{1,32}$/;
const crlNumberMaxBytes = 20; // RFC 5280 §5.2.3

/** Bytes of a leaf. Throws `request-too-large` past `leafMaxBytes`; any other fault is wrong code. */
export function encodeLeaf(leaf: Leaf): Buffer {
  assert(Object.hasOwn(leafTypes, leaf.type), 'known leaf type');
  assert(Number.isSafeInteger(leaf.timeMs) && leaf.timeMs >= 0, 'leaf time in whole milliseconds');
  assert(
    leaf.issuerKeyId === '' || /^[0-9a-f]{40}$/.test(leaf.issuerKeyId),
    'issuer key id of 40 hex or empty',
  );
  assert(leaf.issuerKeyId !== '' || !issuerTypes.includes(leaf.type), 'a leaf of this type names its issuer');
  assert(leaf.context.length === contextBytes, 'leaf context of 32 bytes');
  assert(leaf.body.length > 0, 'leaf body not empty');
  const issuer = Buffer.from(leaf.issuerKeyId, 'hex');
  const size = 13 + issuer.length + leaf.body.length + contextBytes;
  if (size > leafMaxBytes)
    throw new VouchError(
      'request-too-large',
      `a log leaf holds ${leafMaxBytes} bytes, this one has ${size}: use fewer or shorter names`,
    );
  const head = Buffer.alloc(11);
  head[0] = version;
  head[1] = leafTypes[leaf.type];
  head.writeBigUInt64BE(BigInt(leaf.timeMs), 2);
  head[10] = issuer.length;
  const bodyLength = Buffer.alloc(2);
  bodyLength.writeUInt16BE(leaf.body.length);
  return Buffer.concat([head, issuer, bodyLength, leaf.body, leaf.context], size);
}

/** Reads a leaf's bytes; exactly what `encodeLeaf` writes, else throws `integrity-log`. The body is not decoded. */
export function decodeLeaf(bytes: Buffer): Leaf {
  if (bytes.length > leafMaxBytes) refuse('leaf is longer than 65,535 bytes');
  const cursor = new Cursor(bytes, 'leaf');
  if (cursor.unsigned(1) !== version) refuse('leaf version is not 1; a newer Vouch may have written it');
  const typeCode = cursor.unsigned(1);
  const type = (Object.keys(leafTypes) as LeafType[]).find((name) => leafTypes[name] === typeCode);
  if (type === undefined) refuse(`leaf type ${typeCode} is unknown; a newer Vouch may have written it`);
  const timeMs = cursor.unsigned(8);
  const issuerBytes = cursor.unsigned(1);
  if (issuerBytes !== 0 && issuerBytes !== 20) refuse('leaf has an issuer key id that is not 20 bytes');
  const issuerKeyId = cursor.bytes(issuerBytes).toString('hex');
  if (issuerKeyId === '' && issuerTypes.includes(type)) refuse(`${type} leaf names no issuer`);
  const body = cursor.bytes(cursor.unsigned(2));
  if (body.length === 0) refuse('leaf has an empty body');
  const context = cursor.bytes(contextBytes);
  cursor.end();
  return { type, timeMs, issuerKeyId, body, context };
}

/** Body of a revocation or release leaf: u8 length and serial, u8 reason code, u64 time in ms, where given u64 invalidity date in s. */
export function revocationBody(revocation: RevocationBody): Buffer {
  assert(
    Number.isSafeInteger(revocation.revokedAtMs) && revocation.revokedAtMs >= 0,
    'revocation time in whole milliseconds',
  );
  const serial = serialBytes(revocation.serial);
  const { invalidityDateSeconds } = revocation;
  const tail = Buffer.alloc(invalidityDateSeconds === undefined ? 9 : 17);
  tail[0] = reasonCodes[revocation.reason];
  tail.writeBigUInt64BE(BigInt(revocation.revokedAtMs), 1);
  if (invalidityDateSeconds !== undefined) {
    assert(
      Number.isSafeInteger(invalidityDateSeconds) && invalidityDateSeconds >= 0,
      'invalidity date in whole seconds',
    );
    tail.writeBigUInt64BE(BigInt(invalidityDateSeconds), 9);
  }
  return Buffer.concat([Buffer.from([serial.length]), serial, tail]);
}

/** Reads what `revocationBody` writes. Throws `integrity-log`. */
export function decodeRevocationBody(body: Buffer): RevocationBody {
  const cursor = new Cursor(body, 'revocation body');
  const serialHex = cursor.bytes(cursor.unsigned(1)).toString('hex');
  const reason = reasonOfCode(cursor.unsigned(1)) ?? refuse('revocation body has an unknown reason code');
  const revokedAtMs = cursor.unsigned(8);
  const invalidity = cursor.atEnd ? {} : { invalidityDateSeconds: cursor.unsigned(8) };
  cursor.end();
  try {
    return { serial: parseSerial(serialHex), reason, revokedAtMs, ...invalidity };
  } catch (cause) {
    throw new VouchError('integrity-log', 'revocation body has a malformed serial', { cause });
  }
}

/** Body of a CRL leaf: u8 length and scope, u8 length and number (minimal, big endian), 32 bytes SHA-256. */
export function crlBody(crl: CrlBody): Buffer {
  assert(scopeGrammar.test(crl.scope), 'CRL scope of a-z 0-9 -');
  assert(crl.tbsSha256.length === 32, 'SHA-256 of 32 bytes');
  assert(crl.crlNumber >= 0n && crl.crlNumber < 1n << 159n, 'CRL number of at most 20 octets');
  const hex = crl.crlNumber.toString(16);
  const number = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  const scope = Buffer.from(crl.scope, 'ascii');
  return Buffer.concat([
    Buffer.from([scope.length]),
    scope,
    Buffer.from([number.length]),
    number,
    crl.tbsSha256,
  ]);
}

/** Reads what `crlBody` writes. Throws `integrity-log`. */
export function decodeCrlBody(body: Buffer): CrlBody {
  const cursor = new Cursor(body, 'CRL body');
  const scope = cursor.bytes(cursor.unsigned(1)).toString('latin1');
  if (!scopeGrammar.test(scope)) refuse('CRL body has a malformed scope');
  const number = cursor.bytes(cursor.unsigned(1));
  if (number.length === 0 || number.length > crlNumberMaxBytes || (number[0] === 0 && number.length > 1))
    refuse('CRL body has a malformed number');
  const crlNumber = BigInt(`0x${number.toString('hex')}`);
  if (crlNumber >= 1n << 159n) refuse('CRL body has a number of more than 20 octets');
  const tbsSha256 = cursor.bytes(32);
  cursor.end();
  return { scope, crlNumber, tbsSha256 };
}

/** Body of a token, entry, authority or operator leaf: canonical JSON (RFC 8785), UTF-8. */
export function jsonBody(value: Json): Buffer {
  return Buffer.from(canonicalJson(value), 'utf8');
}

/** Reads what `jsonBody` writes, refusing any other spelling of the same value. Throws `integrity-log`. */
export function decodeJsonBody(body: Buffer): Json {
  try {
    const value = JSON.parse(body.toString('utf8')) as Json;
    if (jsonBody(value).equals(body)) return value;
  } catch (cause) {
    throw new VouchError('integrity-log', 'leaf body is not JSON that this log writes', { cause });
  }
  return refuse('leaf body is not canonical JSON');
}

/**
 * A leaf's context: SHA-256 of the 16 byte random salt and the decision's canonical JSON (UTF-8). It commits to who
 * decided what and on which evidence, and without the salt tells nothing of it.
 */
export function decisionContext(salt: Buffer, decision: string): Buffer {
  assert(salt.length === 16, 'decision salt of 16 bytes');
  return hash('sha256', Buffer.concat([salt, Buffer.from(decision, 'utf8')]), 'buffer');
}

/** Reads fixed and length-prefixed fields; every read past the end is an `integrity-log` failure. */
class Cursor {
  readonly #bytes: Buffer;
  readonly #what: string;
  #at = 0;

  constructor(bytes: Buffer, what: string) {
    this.#bytes = bytes;
    this.#what = what;
  }

  /** Big endian; beyond 2^53 - 1 is refused. */
  unsigned(width: 1 | 2 | 8): number {
    const field = this.bytes(width);
    const value = width === 8 ? Number(field.readBigUInt64BE()) : field.readUIntBE(0, width);
    if (!Number.isSafeInteger(value)) refuse(`${this.#what} has a number out of range`);
    return value;
  }

  bytes(length: number): Buffer {
    if (this.#bytes.length - this.#at < length) refuse(`${this.#what} is truncated`);
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  end(): void {
    if (!this.atEnd) refuse(`${this.#what} has bytes after its end`);
  }
}

function refuse(detail: string): never {
  throw new VouchError('integrity-log', detail);
}
