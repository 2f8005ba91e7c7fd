import { existsSync } from 'node:fs';
import Database from 'better-sqlite3';
import { VouchError } from '../../core/errors.ts';

/** An open connection; everything on it is synchronous. */
export type Connection = Database.Database;

/** SQLite's application_id of a Vouch database: "Vouc" in ASCII. */
export const applicationId = 0x566f7563;

/**
 * How long a statement waits for another process's lock, blocking this one: only `vouch migrate` and a second reader's
 * recovery ever hold it, and a request must not wait longer.
 */
const busyTimeoutMs = 1_000;

/** Pages kept in memory; it is not touched before there are that many. */
const cacheKibibytes = 32 * 1024;

/** A large transaction's WAL file shrinks back to this at the next checkpoint. */
const walKeptBytes = 64 * 1024 * 1024;

/** SQLite's number for `synchronous=FULL`: the WAL is fsynced at each commit (I10). */
const synchronousFull = 2;

/**
 * Opens an existing database file with the settings that every connection has; nothing is written. Throws
 * `config-state` for a missing file and for one that is no Vouch database.
 */
export function connect(file: string, options: { readonly?: boolean } = {}): Connection {
  return connectChecked(openFile(file, options.readonly ?? false), file, requireVouch);
}

/** Opens a database file without the mark of a state (a lock database, a new state), with the same settings. */
export function connectUnmarked(file: string, options: { busyTimeoutMs?: number } = {}): Connection {
  return connectChecked(openFile(file, false, options.busyTimeoutMs), file, () => undefined);
}

/**
 * Puts the database in WAL mode and reads the answer back, since SQLite keeps the old mode where it cannot (a
 * network file system). Checkpoints are ours to run: SQLite's own hide the failure of their fsync.
 */
export function enterWal(db: Connection): void {
  if (db.pragma('journal_mode = WAL', { simple: true }) !== 'wal')
    throw new VouchError(
      'config-state',
      'the state directory must be on a local file system that SQLite can use in WAL mode',
    );
  db.pragma('wal_autocheckpoint = 0');
  db.pragma(`journal_size_limit = ${walKeptBytes}`);
}

/** Reads back that a commit on this connection is fsynced (I10); better-sqlite3's default in WAL mode is that it is not. */
export function assertDurable(db: Connection): void {
  if (db.pragma('synchronous', { simple: true }) !== synchronousFull)
    throw new VouchError(
      'integrity-state',
      'SQLite did not take synchronous=FULL; commits could be lost at a power cut',
    );
}

/** Translates what SQLite says about a file at opening. */
export function openingFailure(file: string, error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) return error;
  if (error.code === 'SQLITE_NOTADB' || error.code.startsWith('SQLITE_CORRUPT')) return foreign(file, error);
  const hint = error.code.startsWith('SQLITE_BUSY')
    ? 'another process has it locked'
    : `check its owner, mode and disk (${error.code})`;
  return new VouchError('config-state', `cannot open ${file}: ${hint}`, { cause: error });
}

function connectChecked(
  db: Connection,
  file: string,
  check: (db: Connection, file: string) => void,
): Connection {
  try {
    settle(db);
    assertDurable(db);
    check(db, file);
    return db;
  } catch (error) {
    db.close();
    throw openingFailure(file, error);
  }
}

function openFile(file: string, readonly: boolean, timeout = busyTimeoutMs): Connection {
  if (!existsSync(file))
    throw new VouchError(
      'config-state',
      `no state at ${file}: run vouch init, or name the right state directory`,
    );
  try {
    return new Database(file, { readonly, fileMustExist: true, timeout });
  } catch (error) {
    throw openingFailure(file, error);
  }
}

function settle(db: Connection): void {
  db.pragma('synchronous = FULL');
  db.pragma('foreign_keys = ON');
  // The indexes that random serials hit stay in memory up to about a million certificates.
  db.pragma(`cache_size = -${cacheKibibytes}`);
  // Functions and virtual tables with side effects stay out of reach of a schema that someone tampered with.
  db.pragma('trusted_schema = OFF');
  db.pragma('cell_size_check = ON');
  // Without it INSERT OR REPLACE would delete past the triggers that forbid it.
  db.pragma('recursive_triggers = ON');
  if (db.readonly) db.pragma('query_only = ON');
}

function requireVouch(db: Connection, file: string): void {
  if (db.pragma('application_id', { simple: true }) !== applicationId) throw foreign(file);
}

function foreign(file: string, cause?: unknown): VouchError {
  return new VouchError(
    'config-state',
    `${file} is not a Vouch database, or vouch init was interrupted: name the right state directory, or restore a backup`,
    { cause },
  );
}
