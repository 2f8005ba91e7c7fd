import { type Reason, reasonOfCode } from '../core/reasons.ts';
import { type Serial, serialBytes } from '../core/serial.ts';
import { isMinimalInteger, tags } from './der.ts';
import { DerReader, malformed } from './der-reader.ts';
import { readTime } from './der-time.ts';
import { readExtensions } from './extensions.ts';
import { oids } from './oids.ts';

/** One entry of revokedCertificates. */
export interface ParsedRevoked {
  serial: Serial;
  dateSeconds: number;
  reason: Reason;
  /** Since when the key may have been in other hands (RFC 5280 §5.3.2). */
  invalidityDateSeconds?: number;
}

/** What became of one serial from one list to a later one: it came, it left, or its date or reason is another. */
export interface RevokedChange {
  serial: Serial;
  before: ParsedRevoked | undefined;
  after: ParsedRevoked | undefined;
}

/** RFC 5280 §4.1.2.2. */
const serialMaxBytes = 20;

/** reasonCode up to its value, as the one extension of an entry: what nearly every entry with a reason has. */
const reasonForm = Buffer.from('300c300a0603551d1504030a01', 'hex');

/** What entries come to that are read one after the other. */
export class EntryTally {
  count = 0;
  /** True where serials rise strictly. */
  ascending = true;
  /** The latest revocationDate. */
  newestDateSeconds: number | undefined;
  /** Entries that say `unspecified` in so many words. */
  explicitUnspecified = 0;
  /** Entries with the reason removeFromCRL. */
  removals = 0;
  readonly criticalUnknown: string[] = [];
  /** Where the serial of the last one stands. */
  #last: { bytes: Buffer; serialStart: number; serialEnd: number } | undefined;

  /** Takes the entries from `start` to `end`, all of them whole. Throws `request-malformed` for one that is not strict DER. */
  add(bytes: Buffer, start: number, end: number): void {
    const entry = new EntryCursor(bytes, start, end);
    let { bytes: before, serialStart, serialEnd } = this.#last ?? entry;
    while (entry.next()) {
      if (this.newestDateSeconds === undefined || entry.dateSeconds > this.newestDateSeconds)
        this.newestDateSeconds = entry.dateSeconds;
      if (entry.explicitUnspecified) this.explicitUnspecified++;
      if (entry.reason === 'removeFromCRL') this.removals++;
      if (entry.criticalUnknown !== undefined && !this.criticalUnknown.includes(entry.criticalUnknown))
        this.criticalUnknown.push(entry.criticalUnknown);
      if (this.ascending && this.count > 0)
        this.ascending = compareIntegers(before, serialStart, serialEnd, entry) < 0;
      this.count++;
      before = bytes;
      serialStart = entry.serialStart;
      serialEnd = entry.serialEnd;
    }
    this.#last = { bytes: before, serialStart, serialEnd };
  }
}

/**
 * The entries of a CRL where they stand, read in one pass on construction with no object for each; they become objects
 * when asked for. Throws `request-malformed` for one that is not strict DER.
 */
export class CrlEntries {
  readonly tally = new EntryTally();
  readonly #bytes: Buffer;
  readonly #start: number;
  readonly #end: number;
  #index: Int32Array | undefined;

  /** `list`: a cursor over the content of revokedCertificates; undefined where there is none. */
  constructor(list: DerReader | undefined) {
    this.#bytes = list?.bytes ?? Buffer.alloc(0);
    this.#start = list?.at ?? 0;
    this.#end = list?.end ?? 0;
    this.tally.add(this.#bytes, this.#start, this.#end);
  }

  /** Their DER as it stands, one behind the other. */
  get bytes(): Buffer {
    return this.#bytes.subarray(this.#start, this.#end);
  }

  /** Every entry in its order. */
  *all(): Generator<ParsedRevoked> {
    const entry = this.#cursor();
    while (entry.step()) yield entry.read();
  }

  /** What differs from an earlier list, where serials ascend in both. Entries of equal bytes make no object. */
  *changesSince(earlier: CrlEntries): Generator<RevokedChange> {
    const [before, after] = [earlier.#cursor(), this.#cursor()];
    let [hasBefore, hasAfter] = [before.step(), after.step()];
    while (hasBefore || hasAfter) {
      const order = hasBefore && hasAfter ? before.compareSerial(after) : hasBefore ? -1 : 1;
      if (order !== 0 || !before.equals(after))
        yield {
          serial: (order <= 0 ? before : after).serial,
          before: order <= 0 ? before.read() : undefined,
          after: order >= 0 ? after.read() : undefined,
        };
      if (order <= 0) hasBefore = before.step();
      if (order >= 0) hasAfter = after.step();
    }
  }

  /** Whether a serial is among them, by an index of byte offsets that the first call builds. */
  has(serial: Serial): boolean {
    const wanted = serialBytes(serial);
    const index = (this.#index ??= this.#buildIndex());
    const mask = index.length - 1;
    for (let slot = hashBytes(wanted, 0, wanted.length) & mask; ; slot = (slot + 1) & mask) {
      const start = index[slot] ?? 0;
      if (start === 0) return false;
      const length = this.#bytes[start - 1];
      if (length === wanted.length && wanted.compare(this.#bytes, start, start + length) === 0) return true;
    }
  }

  #cursor(): EntryCursor {
    return new EntryCursor(this.#bytes, this.#start, this.#end);
  }

  /** Open addressing, at most half full; a slot holds the offset of a serial's content, which is never 0. */
  #buildIndex(): Int32Array {
    const index = new Int32Array(2 ** Math.max(4, Math.ceil(Math.log2(this.tally.count * 2 + 1))));
    const mask = index.length - 1;
    const entry = this.#cursor();
    while (entry.step()) {
      let slot = hashBytes(this.#bytes, entry.serialStart, entry.serialEnd) & mask;
      while (index[slot] !== 0) slot = (slot + 1) & mask;
      index[slot] = entry.serialStart;
    }
    return index;
  }
}

/** Steps from entry to entry and leaves what it read in its fields, so that a million of them make no garbage. */
export class EntryCursor {
  bytes: Buffer;
  start = 0;
  end = 0;
  serialStart = 0;
  serialEnd = 0;
  dateSeconds = 0;
  reason: Reason = 'unspecified';
  explicitUnspecified = false;
  criticalUnknown: string | undefined;
  invalidityDateSeconds: number | undefined;
  readonly #list: DerReader;

  constructor(bytes: Buffer, start = 0, end: number = bytes.length) {
    this.bytes = bytes;
    this.#list = new DerReader(bytes, start, end);
  }

  /** Stands where another cursor does, to be compared with what comes behind. */
  follow(other: EntryCursor): void {
    this.bytes = other.bytes;
    this.start = other.start;
    this.end = other.end;
    this.serialStart = other.serialStart;
    this.serialEnd = other.serialEnd;
  }

  /** Steps to the next entry and reads its serial; false behind the last. */
  step(): boolean {
    const list = this.#list;
    if (list.done) return false;
    this.start = list.at;
    list.expect(tags.sequence, 'revoked certificate');
    this.end = list.at;
    this.#readSerial(list.contentStart, this.end);
    return true;
  }

  /** Reads the next entry; false behind the last. */
  next(): boolean {
    if (!this.step()) return false;
    this.#readRest();
    return true;
  }

  get serial(): Serial {
    return this.bytes.toString('hex', this.serialStart, this.serialEnd) as Serial;
  }

  /** The entry that it stepped to, as an object. */
  read(): ParsedRevoked {
    this.#readRest();
    const { serial, dateSeconds, reason, invalidityDateSeconds } = this;
    return {
      serial,
      dateSeconds,
      reason,
      ...(invalidityDateSeconds !== undefined && { invalidityDateSeconds }),
    };
  }

  /** Negative where this one's serial is the lower. */
  compareSerial(other: EntryCursor): number {
    return compareIntegers(this.bytes, this.serialStart, this.serialEnd, other);
  }

  /** Negative where this one's serial is lower than the content of this INTEGER. */
  compareTo(serial: Buffer): number {
    return -compareIntegers(serial, 0, serial.length, this);
  }

  /** In JavaScript, since a call out of it costs more than comparing fifty bytes. */
  equals({ bytes, start, end }: EntryCursor): boolean {
    if (end - start !== this.end - this.start) return false;
    for (let i = 0; start + i < end; i++) if (bytes[start + i] !== this.bytes[this.start + i]) return false;
    return true;
  }

  #readRest(): void {
    const extensionsStart = this.#readDate(this.serialEnd, this.end);
    this.reason = 'unspecified';
    this.explicitUnspecified = false;
    this.criticalUnknown = undefined;
    this.invalidityDateSeconds = undefined;
    if (extensionsStart < this.end) this.#readExtensions(extensionsStart, this.end);
  }

  #readSerial(start: number, end: number): void {
    const bytes = this.bytes;
    const length = bytes[start + 1] ?? 0;
    const content = start + 2;
    const contentEnd = content + length;
    if (bytes[start] !== tags.integer || length === 0 || length > serialMaxBytes || contentEnd > end)
      malformed('serial number is missing or not of 1 to 20 bytes', start);
    if ((bytes[content] ?? 0) >= 0x80 || !isMinimalInteger(bytes, content, contentEnd))
      malformed('serial number is negative or not minimal', content);
    this.serialStart = content;
    this.serialEnd = contentEnd;
  }

  #readDate(start: number, end: number): number {
    const dateEnd = start + 2 + (this.bytes[start + 1] ?? 0);
    const seconds =
      dateEnd > end ? undefined : readTime(this.bytes, this.bytes[start] ?? 0, start + 2, dateEnd);
    this.dateSeconds = seconds ?? malformed('revocationDate is not a valid time', start);
    return dateEnd;
  }

  #readExtensions(start: number, end: number): void {
    const isReasonOnly =
      end - start === reasonForm.length + 1 &&
      this.bytes.compare(reasonForm, 0, reasonForm.length, start, end - 1) === 0;
    if (isReasonOnly) return this.#setReason(this.bytes[end - 1] ?? 0, end - 1);
    const reader = new DerReader(this.bytes, start, end);
    for (const { oid, critical, value } of readExtensions(reader)) {
      if (oid === oids.reasonCode) {
        this.#setReason(value.small('reasonCode', tags.enumerated), value.contentStart);
        value.finish('reasonCode');
      } else if (oid === oids.invalidityDate) {
        this.invalidityDateSeconds = value.generalizedTime('invalidityDate');
        value.finish('invalidityDate');
      } else if (critical) this.criticalUnknown = oid;
    }
    reader.finish('revoked certificate');
  }

  #setReason(code: number, at: number): void {
    this.reason = reasonByCode[code] ?? malformed('reasonCode does not exist', at);
    this.explicitUnspecified = code === 0;
  }
}

const reasonByCode = Array.from({ length: 11 }, (_, code) => reasonOfCode(code));

/** Compares a minimal non-negative integer with a cursor's serial, which is one. */
function compareIntegers(bytes: Buffer, start: number, end: number, other: EntryCursor): number {
  const longer = end - start - (other.serialEnd - other.serialStart);
  if (longer !== 0) return longer;
  for (let i = 0; start + i < end; i++) {
    const difference = (bytes[start + i] ?? 0) - (other.bytes[other.serialStart + i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/** FNV-1a, mixed once more so that the low bits are good. */
function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = 0x811c9dc5;
  for (let at = start; at < end; at++) hash = Math.imul(hash ^ (bytes[at] ?? 0), 0x01000193);
  return hash ^ (hash >>> 15);
}
