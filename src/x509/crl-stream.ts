import { EntryTally } from './crl-entries.ts';
import { type CrlOpening, crlHead, crlMaxBytes, type ParsedCrlHead, readCrlOpening } from './crl.ts';
import { tags } from './der.ts';
import { DerReader, malformed } from './der-reader.ts';

/** More than any name, entry or extension needs, so that what is held of an input stays small. */
export const crlPartMaxBytes = 64 * 1024;

/** Version, algorithm, issuer, thisUpdate, nextUpdate. */
const openingElements = 5;

/**
 * Reads a DER TBSCertList (RFC 5280 §5.1.2) that comes in chunks cut anywhere, by the rules of `parseTbsCrl`; in
 * addition everything before the entries, each entry, and everything behind them has at most `crlPartMaxBytes`. Holds
 * no more than such a part and the last chunk. Throws `request-malformed`, its position counted from where that part
 * begins; after that it is of no use.
 */
export class CrlStreamReader {
  readonly #tally = new EntryTally();
  #phase: 'opening' | 'entries' | 'tail' = 'opening';
  #opening: CrlOpening | undefined;
  /** The beginning of a part that is not there whole. */
  #held: Buffer = Buffer.alloc(0);
  /** Bytes of the whole and, while entries are read, of their list that are still to be read; those held count. */
  #left = crlMaxBytes;
  #listLeft = 0;

  /** Takes the next bytes. */
  push(chunk: Buffer): void {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    let at = 0;
    if (this.#phase === 'opening') at = this.#readOpening(bytes);
    if (this.#phase === 'entries') at = this.#readEntries(bytes, at);
    if (this.#phase === 'tail' && bytes.length - at > this.#left) malformed('trailing data', at + this.#left);
    this.#held = Buffer.from(bytes.subarray(at));
  }

  /** What the CRL says; all of it was pushed. */
  end(): ParsedCrlHead {
    if (!this.#opening || this.#phase !== 'tail' || this.#held.length !== this.#left)
      malformed('TBSCertList is cut short', this.#held.length);
    return crlHead(this.#opening, this.#tally, new DerReader(this.#held));
  }

  /** Reads as soon as it is known whether entries follow; returns where they, or the tail, begin. */
  #readOpening(bytes: Buffer): number {
    const outer = new DerReader(bytes, 0, crlMaxBytes);
    if (!stepOver(outer, 'TBSCertList', tags.sequence)) return 0;
    const [start, end] = [outer.contentStart, outer.at];
    const ahead = new DerReader(bytes, start, end);
    for (let i = 0; i <= openingElements; i++) {
      if (ahead.at > bytes.length) return 0;
      if (!stepOver(ahead, 'element of TBSCertList')) return 0;
      if (i < openingElements && ahead.at > crlPartMaxBytes) tooLong(ahead.contentStart);
    }
    const list = new DerReader(bytes, start, end);
    const opening = readCrlOpening(list);
    this.#opening = { ...opening, issuerName: Buffer.from(opening.issuerName) };
    if (bytes[list.at] !== tags.sequence) return this.#toTail(list.at, end - list.at);
    if (ahead.at === ahead.contentStart) malformed('revokedCertificates is empty', ahead.contentStart);
    this.#listLeft = ahead.at - ahead.contentStart;
    this.#left = end - ahead.contentStart;
    this.#phase = 'entries';
    return ahead.contentStart;
  }

  /** Reads the entries that are there whole; returns where the next, or the tail, begins. */
  #readEntries(bytes: Buffer, start: number): number {
    const ahead = new DerReader(bytes, start, start + this.#listLeft);
    let end = start;
    while (!ahead.done && stepOver(ahead, 'revoked certificate')) {
      if (ahead.at - end > crlPartMaxBytes) tooLong(end);
      if (ahead.at > bytes.length) break;
      end = ahead.at;
    }
    this.#tally.add(bytes, start, end);
    this.#listLeft -= end - start;
    this.#left -= end - start;
    return this.#listLeft === 0 ? this.#toTail(end, this.#left) : end;
  }

  #toTail(at: number, left: number): number {
    if (left > crlPartMaxBytes) tooLong(at);
    this.#phase = 'tail';
    this.#left = left;
    return at;
  }
}

/** Steps over the next element by its header, whether its content is there or not; false where the header is not. */
function stepOver(reader: DerReader, what: string, tag?: number): boolean {
  const { bytes, at } = reader;
  const lengthByte = bytes[at + 1] ?? 0;
  const headEnd = at + 2 + (lengthByte > 0x80 ? Math.min(lengthByte & 0x7f, 4) : 0);
  if (headEnd > bytes.length && headEnd <= reader.end) return false;
  if (tag === undefined) reader.skip(what);
  else reader.expect(tag, what);
  return true;
}

function tooLong(at: number): never {
  malformed(`a part of the CRL has more than ${crlPartMaxBytes} bytes`, at);
}
