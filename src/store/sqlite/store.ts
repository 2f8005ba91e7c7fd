import { closeSync, openSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { setImmediate as aTurn } from 'node:timers/promises';
import { assert, VouchError } from '../../core/errors.ts';
import type { Serial } from '../../core/serial.ts';
import type { ClockMark, Mutation, MutationOutcome, SignedSoFar, Store } from '../port.ts';
import type { StateIdentity } from '../records.ts';
import type { CrlPiece } from '../../x509/crl-list.ts';
import { copyDatabase, syncPath } from './backup.ts';
import { BatchWriter } from './batch.ts';
import { Committer } from './committer.ts';
import type { Connection } from './connection.ts';
import { applicationId, connect, connectUnmarked, enterWal, openingFailure } from './connection.ts';
import { CrlPieceWriter, clearUnusedPieces, type PieceIds } from './crl-pieces.ts';
import type { Migration } from './migrations.ts';
import { applyMigrations, defaultMigrations, readMigrations, requireCurrentSchema } from './migrations.ts';
import type { ReadStatements } from './read-statements.ts';
import { prepareReads } from './read-statements.ts';
import { SqliteReader } from './reader.ts';
import { RevocationWriter } from './revocation-writer.ts';

/** How much of a CRL's list is written in one transaction: milliseconds. */
const sliceMaxBytes = 256 * 1024;

/** How a database is opened. */
export interface SqliteStoreOptions {
  /** A snapshot as of opening, for verification beside a running server; its writes throw. */
  readonly?: boolean;
  /** Directory of the SQL files; default: the program's own. */
  migrations?: string;
}

/**
 * Opens the state that `vouch init` made (I10); never creates. The caller holds the state's lock unless `readonly`.
 * Throws `config-state` for a missing, foreign or half-made file, `config-schema` for an older or newer schema.
 */
export function openSqliteStore(file: string, options: SqliteStoreOptions = {}): SqliteStore {
  const readonly = options.readonly ?? false;
  const db = connect(file, { readonly });
  try {
    if (readonly) db.exec('BEGIN');
    requireCurrentSchema(db, options.migrations ?? defaultMigrations());
    if (!readonly) {
      enterWal(db);
      clearUnusedPieces(db);
    }
    return new SqliteStore(db, prepareReads(db), readonly);
  } catch (error) {
    db.close();
    throw openingFailure(file, error);
  }
}

/**
 * Makes a new state, mode 0600, and opens it; for `vouch init` only. It is one transaction: a crash leaves a file that
 * `openSqliteStore` refuses. Throws `config-state` where the file exists or cannot be made.
 */
export function createSqliteStore(
  file: string,
  identity: StateIdentity,
  options: { migrations?: string } = {},
): SqliteStore {
  const migrations = options.migrations ?? defaultMigrations();
  const known = readMigrations(migrations);
  try {
    closeSync(openSync(file, 'wx', 0o600));
  } catch (error) {
    throw new VouchError(
      'config-state',
      `cannot make ${file}: there must be no state yet and its directory must be writable`,
      { cause: error },
    );
  }
  try {
    initialize(file, identity, known);
    syncPath(dirname(file));
    return openSqliteStore(file, { migrations });
  } catch (error) {
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${file}${suffix}`, { force: true });
    throw openingFailure(file, error);
  }
}

/** The port over one SQLite connection, which it owns. All runs synchronously; promises are for other adapters' sake. */
export class SqliteStore extends SqliteReader implements Store {
  readonly #db: Connection;
  readonly #writes: Writes | undefined;
  readonly #backups = new Set<Promise<void>>();

  constructor(db: Connection, reads: ReadStatements, readonly: boolean) {
    super(reads);
    this.#db = db;
    this.#writes = readonly ? undefined : prepareWrites(db, reads, this.pieceIds);
  }

  writable(): boolean {
    return this.#writes !== undefined && !this.#writes.committer.fenced;
  }

  async commitBatch(mutations: readonly Mutation[], signed: SignedSoFar): Promise<MutationOutcome[]> {
    if (mutations.length === 0 && isNothing(signed)) return [];
    return this.#commit(({ batch }) => {
      batch.keepSigned(signed);
      return batch.apply(mutations);
    });
  }

  async storeSigned(signed: SignedSoFar): Promise<void> {
    if (!isNothing(signed)) this.#commit(({ batch }) => batch.keepSigned(signed));
  }

  async putPieces(pieces: readonly CrlPiece[]): Promise<void> {
    const missing = this.#writes?.pieces.missing(pieces) ?? [];
    for (const slice of slices(missing)) {
      this.#commit((writes) => writes.pieces.put(slice));
      await aTurn();
    }
  }

  async releaseExpired(issuerKeyId: string, serials: readonly Serial[]): Promise<void> {
    if (serials.length > 0) this.#commit(({ revocations }) => revocations.release(issuerKeyId, serials));
  }

  async setClockMark({ wallMs, monotonicMs, bootId }: ClockMark): Promise<void> {
    this.#commit(({ clockMark }) => clockMark.run(wallMs, monotonicMs, bootId));
  }

  async keepRewindEvidence(note: string): Promise<void> {
    this.#commit(({ rewindEvidence }) => rewindEvidence.run(note));
  }

  async backup(file: string): Promise<void> {
    const copying = copyDatabase(this.#db, file);
    const settled = copying.catch(() => undefined);
    this.#backups.add(settled);
    await copying.finally(() => this.#backups.delete(settled));
  }

  /** Lets a backup finish, then closes; twice is once. */
  async close(): Promise<void> {
    await Promise.all(this.#backups);
    this.#writes?.committer.stop();
    this.#db.close();
  }

  #commit<T>(work: (writes: Writes) => T): T {
    const writes = this.#writes;
    assert(writes !== undefined, 'a store opened for reading is not written to');
    return writes.committer.run(() => work(writes));
  }
}

type Writes = ReturnType<typeof prepareWrites>;

function prepareWrites(db: Connection, reads: ReadStatements, ids: PieceIds) {
  const pieces = new CrlPieceWriter(db, ids);
  return {
    committer: new Committer(db),
    pieces,
    batch: new BatchWriter(db, reads, pieces),
    revocations: new RevocationWriter(db, reads),
    rewindEvidence: db.prepare<[string]>('UPDATE marks SET rewind_evidence = ?'),
    clockMark: db.prepare<[number, number, string]>(
      'UPDATE marks SET clock_ms = ?, clock_monotonic_ms = ?, clock_boot_id = ?',
    ),
  };
}

/** Pieces of at most `sliceMaxBytes` together; a larger one alone. */
function* slices(pieces: readonly CrlPiece[]): Generator<CrlPiece[]> {
  let slice: CrlPiece[] = [];
  let length = 0;
  for (const piece of pieces) {
    if (slice.length > 0 && length + piece.bytes.length > sliceMaxBytes) {
      yield slice;
      [slice, length] = [[], 0];
    }
    slice.push(piece);
    length += piece.bytes.length;
  }
  if (slice.length > 0) yield slice;
}

function isNothing(signed: SignedSoFar): boolean {
  return signed.signatures.length === 0 && signed.checkpointNote === undefined;
}

function initialize(file: string, identity: StateIdentity, migrations: readonly Migration[]): void {
  const db = connectUnmarked(file);
  try {
    enterWal(db);
    db.exec('BEGIN IMMEDIATE');
    db.pragma(`application_id = ${applicationId}`);
    applyMigrations(db, migrations);
    insertIdentity(db, identity);
    db.exec('COMMIT');
  } finally {
    db.close();
  }
}

function insertIdentity(db: Connection, identity: StateIdentity): void {
  db.prepare(
    `INSERT INTO state_identity (singleton, state_id, trust_domain, log_origin, serial_prefix, shard_count, created_at_ms)
     VALUES (1, ?, ?, ?, ?, ?, ?)`,
  ).run(
    identity.stateId,
    identity.trustDomain,
    identity.logOrigin,
    identity.serialPrefix,
    identity.shardCount,
    identity.createdAtMs,
  );
  db.prepare(
    "INSERT INTO marks (singleton, clock_ms, clock_monotonic_ms, clock_boot_id) VALUES (1, ?, 0, '')",
  ).run(identity.createdAtMs);
}
