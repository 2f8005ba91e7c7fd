import { type Serial, serialBytes } from '../core/serial.ts';
import { EntryCursor, type ParsedRevoked, type RevokedChange } from './crl-entries.ts';
import { malformed } from './der-reader.ts';

/** A run of DER entries, one behind the other in serial order; never changed once made. */
export interface CrlPiece {
  readonly bytes: Buffer;
  readonly count: number;
}

/** Largest piece: what one revocation makes new in memory and in the store. */
const pieceMaxBytes = 32 * 1024;
/** How full a list that is made at once makes them, so that what comes later finds room. */
const pieceFillBytes = 24 * 1024;

/**
 * The entries of a CRL in serial order, immutable, in pieces: a list with a few changes shares all other pieces with the
 * one that it was made from. So one revocation among a million costs what one piece does.
 */
export class CrlList {
  static readonly empty = new CrlList([]);
  readonly pieces: readonly CrlPiece[];
  readonly count: number;
  readonly byteLength: number;

  private constructor(pieces: readonly CrlPiece[]) {
    this.pieces = pieces;
    this.count = pieces.reduce((sum, piece) => sum + piece.count, 0);
    this.byteLength = pieces.reduce((sum, piece) => sum + piece.bytes.length, 0);
  }

  /** Of entries as `encodeRevoked` makes them, in serial order. */
  static of(entries: Iterable<Buffer>): CrlList {
    const filling = new Filling();
    for (const entry of entries) filling.add(entry);
    return new CrlList(filling.done());
  }

  /** Of pieces as they were stored; those that are in memory stay the same objects and are not read again. Throws `request-malformed` where an entry is not strict DER or serials do not rise. */
  static read(stored: readonly (Buffer | CrlPiece)[]): CrlList {
    let last: EntryCursor | undefined;
    const pieces = stored.map((one): CrlPiece => {
      if (!Buffer.isBuffer(one)) {
        last = undefined;
        return one;
      }
      let count = 0;
      const entry = new EntryCursor(one);
      for (; entry.next(); count += 1) {
        if (last && last.compareSerial(entry) >= 0) malformed('serials do not rise', entry.start);
        last ??= new EntryCursor(one);
        last.follow(entry);
      }
      return { bytes: one, count };
    });
    return new CrlList(pieces.filter(({ count }) => count > 0));
  }

  /** Of entries that stand one behind the other in serial order and were read before. */
  static cut(entries: Buffer): CrlList {
    return new CrlList(cutPieces(entries));
  }

  /** The entry of a serial. */
  find(serial: Serial): ParsedRevoked | undefined {
    const wanted = serialBytes(serial);
    const piece = this.pieces[this.#pieceOf(wanted)];
    if (piece === undefined) return undefined;
    const entry = new EntryCursor(piece.bytes);
    while (entry.step()) if (entry.compareTo(wanted) === 0) return entry.read();
    return undefined;
  }

  /** Every entry in its order. */
  *all(): Generator<ParsedRevoked> {
    for (const { bytes } of this.pieces) {
      const entry = new EntryCursor(bytes);
      while (entry.step()) yield entry.read();
    }
  }

  /** Another list in which these serials have these entries (DER), or none where undefined. */
  with(changes: ReadonlyMap<Serial, Buffer | undefined>): CrlList {
    if (changes.size === 0) return this;
    const byPiece = new Map<number, Change[]>();
    for (const [serial, der] of changes) {
      const change = { serial: serialBytes(serial), der };
      const index = this.#pieceOf(change.serial);
      const some = byPiece.get(index);
      if (some) some.push(change);
      else byPiece.set(index, [change]);
    }
    const pieces = [
      ...(this.pieces.length === 0 ? [{ bytes: Buffer.alloc(0), count: 0 }] : this.pieces),
    ].flatMap((piece, index) => {
      const some = byPiece.get(index);
      return some ? changed(piece, some.sort(bySerial)) : [piece];
    });
    return new CrlList(pieces);
  }

  /** What differs from an earlier list, in serial order. Pieces that both share are passed over. */
  *changesSince(earlier: CrlList): Generator<RevokedChange> {
    const [before, after] = [new ListCursor(earlier.pieces), new ListCursor(this.pieces)];
    while (before.entry || after.entry) {
      if (before.first !== undefined && before.first === after.first) {
        before.pass();
        after.pass();
        continue;
      }
      const order = !after.entry ? -1 : !before.entry ? 1 : before.entry.compareSerial(after.entry);
      if (order !== 0 || !before.entry || !after.entry || !before.entry.equals(after.entry)) {
        const one = order <= 0 ? before.entry : after.entry;
        if (one)
          yield {
            serial: one.serial,
            before: order <= 0 ? before.entry?.read() : undefined,
            after: order >= 0 ? after.entry?.read() : undefined,
          };
      }
      if (order <= 0) before.step();
      if (order >= 0) after.step();
    }
  }

  /** The last piece that does not begin behind this serial; where all do, the first. */
  #pieceOf(serial: Buffer): number {
    let [low, high] = [0, this.pieces.length];
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      const bytes = this.pieces[middle]?.bytes;
      if (bytes && beginsBehind(bytes, serial)) high = middle;
      else low = middle;
    }
    return low;
  }
}

interface Change {
  serial: Buffer;
  der: Buffer | undefined;
}

function bySerial(a: Change, b: Change): number {
  return a.serial.length - b.serial.length || a.serial.compare(b.serial);
}

function beginsBehind(piece: Buffer, serial: Buffer): boolean {
  const entry = new EntryCursor(piece);
  return entry.step() && entry.compareTo(serial) > 0;
}

/** The piece with the changes merged in, in as many pieces of equal size as it takes. */
function changed(piece: CrlPiece, changes: readonly Change[]): CrlPiece[] {
  // What lies between two changes is copied as one run: a list that changes in every piece is made anew in little time.
  const runs: Buffer[] = [];
  const entry = new EntryCursor(piece.bytes);
  let { count } = piece;
  let [runStart, hasEntry] = [0, entry.step()];
  for (const { serial, der } of changes) {
    while (hasEntry && entry.compareTo(serial) < 0) hasEntry = entry.step();
    const at = hasEntry ? entry.start : piece.bytes.length;
    runs.push(piece.bytes.subarray(runStart, at));
    runStart = at;
    if (hasEntry && entry.compareTo(serial) === 0) {
      runStart = entry.end;
      count -= 1;
      hasEntry = entry.step();
    }
    if (!der) continue;
    runs.push(der);
    count += 1;
  }
  runs.push(piece.bytes.subarray(runStart));
  const length = runs.reduce((sum, run) => sum + run.length, 0);
  const bytes = joined(runs, length);
  if (length <= pieceMaxBytes) return count === 0 ? [] : [{ bytes, count }];
  return cutPieces(bytes, Math.ceil(length / Math.ceil(length / pieceFillBytes)));
}

/** In memory of its own: from the pool, a piece that stays would hold its neighbours' memory too. */
function joined(parts: readonly Buffer[], length: number): Buffer {
  const bytes = Buffer.allocUnsafeSlow(length);
  let at = 0;
  for (const part of parts) at += part.copy(bytes, at);
  return bytes;
}

/** Entries that stand one behind the other, in pieces of about `fillBytes`. */
function cutPieces(entries: Buffer, fillBytes?: number): CrlPiece[] {
  const filling = new Filling(fillBytes);
  for (const entry = new EntryCursor(entries); entry.step(); )
    filling.add(entries.subarray(entry.start, entry.end));
  return filling.done();
}

/** Puts entries into pieces of about `fillBytes`. */
class Filling {
  readonly #fillBytes: number;
  readonly #pieces: CrlPiece[] = [];
  #parts: Buffer[] = [];
  #length = 0;

  constructor(fillBytes = pieceFillBytes) {
    this.#fillBytes = fillBytes;
  }

  add(entry: Buffer): void {
    this.#parts.push(entry);
    this.#length += entry.length;
    if (this.#length >= this.#fillBytes) this.#close();
  }

  done(): CrlPiece[] {
    if (this.#parts.length > 0) this.#close();
    return this.#pieces;
  }

  #close(): void {
    this.#pieces.push({ bytes: joined(this.#parts, this.#length), count: this.#parts.length });
    this.#parts = [];
    this.#length = 0;
  }
}

/** Steps through the entries of a list; knows when it stands at the first entry of a piece. */
class ListCursor {
  readonly #pieces: readonly CrlPiece[];
  #index = -1;
  /** The present one; undefined behind the last. */
  entry: EntryCursor | undefined;
  /** The piece whose first entry is the present one. */
  first: CrlPiece | undefined;

  constructor(pieces: readonly CrlPiece[]) {
    this.#pieces = pieces;
    this.pass();
  }

  step(): void {
    this.first = undefined;
    if (this.entry && !this.entry.step()) this.pass();
  }

  /** To the first entry of the next piece. */
  pass(): void {
    this.first = this.#pieces[(this.#index += 1)];
    this.entry = this.first && new EntryCursor(this.first.bytes);
    this.entry?.step();
  }
}
