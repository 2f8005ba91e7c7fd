import Database from 'better-sqlite3';
import { VouchError } from '../../core/errors.ts';

/** Said by every write after the store fenced itself. */
export const fencedDetail =
  'the store is fenced: a write to its disk failed in a way that may have lost pages; check the disk, then restart the server';

/** True where the database refused one row (a constraint, a trigger): the rest of the transaction is sound. */
export function isConstraint(error: unknown): boolean {
  return error instanceof Database.SqliteError && error.code.startsWith('SQLITE_CONSTRAINT');
}

/** True for a violated UNIQUE or PRIMARY KEY constraint. */
export function isDuplicate(error: unknown): boolean {
  return error instanceof Database.SqliteError && /^SQLITE_CONSTRAINT_(UNIQUE|PRIMARYKEY)$/.test(error.code);
}

/** True for what SQLite says about itself or its disk rather than about a row. */
export function isDatabaseFailure(error: unknown): boolean {
  return error instanceof Database.SqliteError && !isConstraint(error);
}

/**
 * True after a failure that what was written before may not survive: file systems mark pages clean when their fsync
 * fails, so a second fsync that succeeds proves nothing (Rebello et al., USENIX ATC 2020). Also where pages read back
 * are wrong. A full disk is not one of them: nothing written is lost, and the next attempt may succeed.
 */
export function losesPages(error: unknown): boolean {
  return (
    error instanceof Database.SqliteError && /^SQLITE_(IOERR_(DIR_)?FSYNC|CORRUPT|NOTADB)/.test(error.code)
  );
}

/** What SQLite threw as the port's error; anything else as it is. */
export function storeFailure(error: unknown): unknown {
  if (!(error instanceof Database.SqliteError)) return error;
  const { code } = error;
  if (/^SQLITE_(CORRUPT|NOTADB)/.test(code))
    return new VouchError(
      'integrity-state',
      `the database is damaged (${code}): stop the server and restore a backup`,
      { cause: error },
    );
  if (losesPages(error)) return new VouchError('unavailable-store', fencedDetail, { cause: error });
  return new VouchError('unavailable-store', unavailableDetail(code), { cause: error, retryAfterSeconds: 1 });
}

function unavailableDetail(code: string): string {
  if (code === 'SQLITE_FULL')
    return 'the disk of the state directory is full: nothing was written; make room';
  if (code.startsWith('SQLITE_BUSY'))
    return 'another process has the database locked: nothing was written; try again';
  return `the database cannot be used now (${code}): nothing was acknowledged; the server log has the cause`;
}
