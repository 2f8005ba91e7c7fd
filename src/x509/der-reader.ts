import { VouchError } from '../core/errors.ts';
import { isMinimalInteger, oidContent, tags } from './der.ts';
import { oids } from './oids.ts';
import { readGeneralizedTime, readTime } from './der-time.ts';

/** How far an unknown element may nest and how many elements a whole input may have. */
export interface DerLimits {
  maxDepth: number;
  maxNodes: number;
}

/** What fits every certificate and CSR that Vouch takes, and stops what only costs time. */
const derLimits: DerLimits = { maxDepth: 16, maxNodes: 2000 };

const maxOidBytes = 64;

/**
 * A cursor over strict DER (X.690 §10): definite minimal lengths, one-byte tags, minimal INTEGERs, BOOLEAN 00 or ff.
 * It reads what its caller's schema names, element by element, and so never recurses on input. Everything throws
 * `request-malformed` with the byte's position. What it returns are views of the bytes it was given.
 */
export class DerReader {
  readonly bytes: Buffer;
  /** Where the next element begins. */
  at: number;
  readonly end: number;
  /** Where the content of the element last read by `skip` begins; `at` is its end. */
  contentStart = 0;

  constructor(bytes: Buffer, start = 0, end: number = bytes.length) {
    this.bytes = bytes;
    this.at = start;
    this.end = end;
  }

  /** True behind the last element. */
  get done(): boolean {
    return this.at >= this.end;
  }

  /** Tag byte of the next element, -1 at the end. */
  get tag(): number {
    return this.at < this.end ? (this.bytes[this.at] ?? -1) : -1;
  }

  /** Refuses what stands behind the last element that the schema knows. */
  finish(what: string): void {
    if (this.at !== this.end) malformed(`unexpected element in ${what}`, this.at);
  }

  /** Steps over the next element, whatever its tag, and returns the tag. */
  skip(what: string): number {
    const { bytes, end } = this;
    let at = this.at;
    if (at + 2 > end) malformed(`${what} is missing or cut short`, at);
    const tag = bytes[at++] ?? 0;
    if ((tag & 0x1f) === 0x1f) malformed(`${what} has a tag of several bytes`, at - 1);
    let length = bytes[at++] ?? 0;
    if (length >= 0x80) {
      const size = length & 0x7f;
      if (size === 0) malformed(`${what} has an indefinite length`, at - 1);
      if (size > 4 || at + size > end) malformed(`${what} has a length that does not fit`, at - 1);
      length = 0;
      for (let i = 0; i < size; i++) length = length * 0x100 + (bytes[at++] ?? 0);
      if (length < 0x80 || (size > 1 && length < 0x100 ** (size - 1)))
        malformed(`${what} has a length that is not minimal`, at - size - 1);
    }
    if (length > end - at) malformed(`${what} is longer than what contains it`, at);
    this.contentStart = at;
    this.at = at + length;
    return tag;
  }

  /** Steps over the next element, which must have this tag. */
  expect(tag: number, what: string): void {
    const at = this.at;
    if (this.skip(what) !== tag) malformed(`${what} has another tag than expected`, at);
  }

  /** A cursor over the content of the next element, which must have this tag. */
  enter(tag: number, what: string): DerReader {
    this.expect(tag, what);
    return new DerReader(this.bytes, this.contentStart, this.at);
  }

  /** As `enter`, refusing an empty content where the standard has SIZE (1..MAX). */
  enterFilled(tag: number, what: string): DerReader {
    const inner = this.enter(tag, what);
    if (inner.done) malformed(`${what} is empty`, this.contentStart);
    return inner;
  }

  /** Content of the next element. */
  content(tag: number, what: string): Buffer {
    this.expect(tag, what);
    return this.bytes.subarray(this.contentStart, this.at);
  }

  /** The whole next element, tag and length included. */
  element(tag: number, what: string): Buffer {
    const start = this.at;
    this.expect(tag, what);
    return this.bytes.subarray(start, this.at);
  }

  /** Content of an INTEGER that is not negative, of at most `maxBytes`, as it stands. */
  unsigned(maxBytes: number, what: string, tag: number = tags.integer): Buffer {
    this.expect(tag, what);
    const { contentStart: start, at: end } = this;
    if (!isMinimalInteger(this.bytes, start, end)) malformed(`${what} is not minimal`, start);
    if ((this.bytes[start] ?? 0) >= 0x80) malformed(`${what} is negative`, start);
    if (end - start > maxBytes) malformed(`${what} is longer than ${maxBytes} bytes`, start);
    return this.bytes.subarray(start, end);
  }

  /** An INTEGER from 0 to 2^31 - 1; `tag` for ENUMERATED and implicit ones. */
  small(what: string, tag: number = tags.integer): number {
    const content = this.unsigned(4, what, tag);
    return content.readUIntBE(0, content.length);
  }

  /** BOOLEAN that DER writes only when it is TRUE, as each DEFAULT FALSE. */
  trueOnly(what: string, tag: number = tags.boolean): true {
    this.expect(tag, what);
    if (this.at - this.contentStart !== 1 || this.bytes[this.contentStart] !== 0xff)
      malformed(`${what} is not TRUE in its one DER form`, this.contentStart);
    return true;
  }

  /** Bytes of a BIT STRING without unused bits, as for keys and signatures. */
  octetBits(what: string): Buffer {
    this.expect(tags.bitString, what);
    if (this.at === this.contentStart || this.bytes[this.contentStart] !== 0)
      malformed(`${what} is not a BIT STRING of whole bytes`, this.contentStart);
    return this.bytes.subarray(this.contentStart + 1, this.at);
  }

  /** A BIT STRING of at most 16 named bits, bit 0 the highest of 16; at least one set, no trailing zeros (X.690 §11.2). */
  namedBits(what: string, tag: number = tags.bitString): number {
    const content = this.content(tag, what);
    const unused = content[0] ?? 8;
    const last = content.at(-1) ?? 0;
    if (content.length < 2 || content.length > 3 || unused > 7)
      malformed(`${what} is not a list of bits`, this.contentStart);
    if ((last & ((2 << unused) - 1)) !== 1 << unused)
      malformed(`${what} is not in its one DER form`, this.contentStart);
    return ((content[1] ?? 0) << 8) | (content[2] ?? 0);
  }

  /** Dotted text of an OBJECT IDENTIFIER. */
  oid(what: string): string {
    this.expect(tags.oid, what);
    const { contentStart: start, at: end } = this;
    if (end - start > maxOidBytes) malformed(`${what} is longer than ${maxOidBytes} bytes`, start);
    return (
      knownOids.get(this.bytes.toString('latin1', start, end)) ?? decodeOid(this.bytes, start, end, what)
    );
  }

  /** UTCTime or GeneralizedTime in the one form of RFC 5280 §4.1.2.5, as Unix seconds. */
  time(what: string): number {
    const start = this.at;
    const tag = this.skip(what);
    return (
      readTime(this.bytes, tag, this.contentStart, this.at) ?? malformed(`${what} is not a valid time`, start)
    );
  }

  /** GeneralizedTime of any year, whole seconds and UTC, as Unix seconds. */
  generalizedTime(what: string): number {
    const start = this.at;
    this.expect(tags.generalizedTime, what);
    return (
      readGeneralizedTime(this.bytes, this.contentStart, this.at) ??
      malformed(`${what} is not a valid time`, start)
    );
  }

  /** Printable ASCII of an IA5String, or of an implicit tag over one. No control, no NUL, nothing above 0x7e. */
  ascii(tag: number, what: string): string {
    this.expect(tag, what);
    for (let at = this.contentStart; at < this.at; at++) {
      const byte = this.bytes[at] ?? 0;
      if (byte < 0x20 || byte > 0x7e) malformed(`${what} has a byte that is not printable ASCII`, at);
    }
    return this.bytes.toString('latin1', this.contentStart, this.at);
  }
}

/**
 * Walks every element of an input before a schema reads it: strict DER throughout, at most `maxDepth` deep and
 * `maxNodes` many, nothing behind the end. Iterative, so nesting cannot exhaust the stack. Does not look into OCTET and
 * BIT STRINGs. Throws `request-malformed`.
 */
export function checkDer(bytes: Buffer, limits: DerLimits = derLimits): void {
  const ends: number[] = [];
  const reader = new DerReader(bytes);
  let nodes = 0;
  let end = bytes.length;
  if (bytes.length === 0) malformed('input is empty', 0);
  for (;;) {
    while (reader.at === end && ends.length > 0) end = ends.pop() ?? end;
    if (reader.at === end) break;
    if (ends.length === 0 && nodes > 0) malformed('trailing data', reader.at);
    if (++nodes > limits.maxNodes) malformed(`more than ${limits.maxNodes} elements`, reader.at);
    const tag = reader.skip('element');
    if (reader.at > end) malformed('element is longer than what contains it', reader.contentStart);
    if ((tag & 0x20) === 0) {
      checkPrimitive(bytes, tag, reader.contentStart, reader.at);
      continue;
    }
    if (tag < 0x40 && tag !== tags.sequence && tag !== tags.set)
      malformed('constructed encoding of a primitive type', reader.contentStart);
    ends.push(end);
    if (ends.length > limits.maxDepth)
      malformed(`nested deeper than ${limits.maxDepth}`, reader.contentStart);
    end = reader.at;
    reader.at = reader.contentStart;
  }
}

/** Refuses with the byte's position. */
export function malformed(what: string, at: number): never {
  throw new VouchError('request-malformed', `not valid DER: ${what} (byte ${at})`);
}

const knownOids = new Map(
  Object.values(oids).map((text) => [oidContent(text).toString('latin1'), text as string]),
);

function checkPrimitive(bytes: Buffer, tag: number, start: number, end: number): void {
  const length = end - start;
  const first = bytes[start] ?? 0;
  switch (tag) {
    case 0x00:
    case 0x10:
    case 0x11:
      return malformed('tag that is never primitive', start);
    case tags.boolean:
      if (length !== 1 || (first !== 0 && first !== 0xff)) malformed('BOOLEAN is neither 00 nor ff', start);
      return;
    case tags.integer:
    case tags.enumerated:
      if (!isMinimalInteger(bytes, start, end)) malformed('INTEGER is not minimal', start);
      return;
    case tags.null:
      if (length !== 0) malformed('NULL is not empty', start);
      return;
    case tags.bitString:
      return checkBitString(bytes, start, end);
    case tags.oid:
      if (length === 0 || first === 0x80 || (bytes[end - 1] ?? 0x80) >= 0x80)
        malformed('OID is cut short', start);
  }
}

function checkBitString(bytes: Buffer, start: number, end: number): void {
  const unused = bytes[start] ?? 8;
  const last = bytes[end - 1] ?? 0;
  if (end - start === 0 || unused > 7 || (end - start === 1 && unused !== 0))
    malformed('BIT STRING without a valid count of unused bits', start);
  if (end - start > 1 && (last & ((1 << unused) - 1)) !== 0)
    malformed('BIT STRING with unused bits that are not zero', end - 1);
}

function decodeOid(bytes: Buffer, start: number, end: number, what: string): string {
  const arcs: number[] = [];
  let arc = 0;
  let fresh = true;
  for (let at = start; at < end; at++) {
    const byte = bytes[at] ?? 0;
    if (fresh && byte === 0x80) malformed(`${what} has an arc that is not minimal`, at);
    arc = arc * 128 + (byte & 0x7f);
    if (arc > Number.MAX_SAFE_INTEGER) malformed(`${what} has an arc above 2^53`, at);
    fresh = byte < 0x80;
    if (!fresh) continue;
    arcs.push(arc);
    arc = 0;
  }
  const [head = 0, ...rest] = arcs;
  if (!fresh || arcs.length === 0) malformed(`${what} is cut short`, start);
  const root = Math.min(2, Math.floor(head / 40));
  return [root, head - root * 40, ...rest].join('.');
}
