import { VouchError } from '../../core/errors.ts';
import { CrlList, type CrlPiece } from '../../x509/crl-list.ts';
import type { Connection } from './connection.ts';

const idBytes = 8;

/**
 * The ids of pieces in memory. A piece has one for as long as the object lives, and what is read twice is one object, so
 * that lists can tell that they share it.
 */
export class PieceIds {
  readonly #ids = new WeakMap<CrlPiece, number>();
  readonly #pieces = new Map<number, WeakRef<CrlPiece>>();
  #last: number;

  /** `last`: the highest id that is stored. */
  constructor(last: number) {
    this.#last = last;
  }

  of(piece: CrlPiece): number {
    return this.#ids.get(piece) ?? this.set(piece, (this.#last += 1));
  }

  set(piece: CrlPiece, id: number): number {
    this.#ids.set(piece, id);
    this.#pieces.set(id, new WeakRef(piece));
    return id;
  }

  piece(id: number): CrlPiece | undefined {
    return this.#pieces.get(id)?.deref();
  }

  /** No row has it any more. */
  forget(id: number): void {
    this.#pieces.delete(id);
  }
}

interface PieceReads {
  crlPiece: { get(id: number): Buffer | undefined };
}

/** The list of a row of `crls`. Throws `integrity-state` where a piece is missing or damaged. */
export function readList(stored: Buffer, reads: PieceReads, known: PieceIds): CrlList {
  if (stored.length === 0) return CrlList.empty;
  const ids = decodeIds(stored);
  try {
    const list = CrlList.read(ids.map((id) => known.piece(id) ?? reads.crlPiece.get(id) ?? Buffer.alloc(0)));
    if (list.pieces.length !== ids.length) throw new Error(`${ids.length - list.pieces.length} are missing`);
    for (const [index, piece] of list.pieces.entries()) known.set(piece, ids[index] ?? 0);
    return list;
  } catch (cause) {
    throw new VouchError('integrity-state', 'pieces of a stored CRL are damaged: restore a backup', {
      cause,
    });
  }
}

/**
 * Writes pieces, each where no row has its id: so neither a transaction that failed nor a row that was pruned meanwhile
 * leaves a CRL without one.
 */
export class CrlPieceWriter {
  readonly #statements: ReturnType<typeof preparePieces>;
  readonly #known: PieceIds;

  constructor(db: Connection, known: PieceIds) {
    this.#statements = preparePieces(db);
    this.#known = known;
  }

  /** Writes those that have no row; the ids of all, as `crls` has them. */
  put(pieces: readonly CrlPiece[]): Buffer {
    for (const piece of this.missing(pieces)) this.#statements.insert.run(this.#known.of(piece), piece.bytes);
    return encodeIds(pieces.map((piece) => this.#known.of(piece)));
  }

  /** Those that have no row. */
  missing(pieces: readonly CrlPiece[]): CrlPiece[] {
    if (pieces.length === 0) return [];
    const byId = new Map(pieces.map((piece) => [this.#known.of(piece), piece]));
    return this.#statements.missing.all(JSON.stringify([...byId.keys()])).flatMap((id) => byId.get(id) ?? []);
  }

  /** Deletes those of `gone` that are not among `kept`, both as `crls` has them. */
  prune(gone: readonly Buffer[], kept: readonly Buffer[]): void {
    const stay = new Set(kept.flatMap(decodeIds));
    for (const id of new Set(gone.flatMap(decodeIds)))
      if (!stay.has(id)) {
        this.#statements.remove.run(id);
        this.#known.forget(id);
      }
  }
}

/** Deletes pieces that no CRL has: they were put, and then the process ended. */
export function clearUnusedPieces(db: Connection): void {
  const used = new Set(db.prepare<[], Buffer>('SELECT pieces FROM crls').pluck().all().flatMap(decodeIds));
  const stored = db.prepare<[], number>('SELECT piece_id FROM crl_pieces').pluck().all();
  const remove = db.prepare<[number]>('DELETE FROM crl_pieces WHERE piece_id = ?');
  const clear = db.transaction((unused: readonly number[]) => {
    for (const id of unused) remove.run(id);
  });
  const unused = stored.filter((id) => !used.has(id));
  if (unused.length > 0) clear(unused);
}

/** Reads ids as a row of `crls` has them: 8 bytes each, big endian. */
export function decodeIds(bytes: Buffer): number[] {
  return Array.from({ length: bytes.length / idBytes }, (_, index) =>
    Number(bytes.readBigUInt64BE(index * idBytes)),
  );
}

function encodeIds(ids: readonly number[]): Buffer {
  const bytes = Buffer.alloc(ids.length * idBytes);
  for (const [index, id] of ids.entries()) bytes.writeBigUInt64BE(BigInt(id), index * idBytes);
  return bytes;
}

function preparePieces(db: Connection) {
  return {
    missing: db
      .prepare<[string], number>(
        'SELECT value FROM json_each(?) WHERE NOT EXISTS (SELECT 1 FROM crl_pieces WHERE piece_id = json_each.value)',
      )
      .pluck(),
    insert: db.prepare<[number, Buffer]>('INSERT INTO crl_pieces (piece_id, bytes) VALUES (?, ?)'),
    remove: db.prepare<[number]>('DELETE FROM crl_pieces WHERE piece_id = ?'),
  };
}
