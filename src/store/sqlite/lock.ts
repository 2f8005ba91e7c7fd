import { closeSync, openSync } from 'node:fs';
import Database from 'better-sqlite3';
import { VouchError } from '../../core/errors.ts';
import type { Connection } from './connection.ts';
import { connectUnmarked, openingFailure } from './connection.ts';

/** The right to use a state directory; held until released or until the process is gone, however it goes. */
export interface StateLock {
  release(): void;
}

/** Of two processes that start at one moment, one gets the lock: it waits while the other one looks. */
const busyTimeoutMs = 500;

/** Keeps the connections reachable: better-sqlite3 closes one, and so frees its lock, when it is garbage collected. */
const held = new Set<Connection>();

/**
 * Takes the exclusive lock of a state directory for the life of this process (I10): an exclusive transaction, never
 * ended, on a database of its own beside the state, so that readers and backups of the state are not in its way. The
 * kernel frees it with the process, also at kill -9. Nothing else in this process may open and close `lockFile`:
 * POSIX drops a process's locks with any of its descriptors. Throws `config-in-use`, `config-state`. `waitMs`: how long
 * this thread stands still where another process has it.
 */
export function lockState(lockFile: string, waitMs = busyTimeoutMs): StateLock {
  makeMissing(lockFile);
  const db = takeLock(lockFile, waitMs);
  held.add(db);
  return {
    release: () => {
      held.delete(db);
      db.close();
    },
  };
}

function takeLock(lockFile: string, waitMs: number): Connection {
  let db: Connection | undefined;
  try {
    db = connectUnmarked(lockFile, { busyTimeoutMs: waitMs });
    if (__VOUCH_WITHOUT__ !== 'I10') db.exec('BEGIN EXCLUSIVE');
    return db;
  } catch (error) {
    db?.close();
    throw lockFailure(lockFile, error);
  }
}

/** Only ever creates: opening and closing a lock file that exists would drop a lock this process has on it. */
function makeMissing(lockFile: string): void {
  try {
    closeSync(openSync(lockFile, 'wx', 0o600));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return;
    throw new VouchError(
      'config-state',
      `cannot create the lock ${lockFile}: the state directory must exist and be writable`,
      { cause: error },
    );
  }
}

function lockFailure(lockFile: string, error: unknown): unknown {
  const cause = error instanceof VouchError ? error.cause : error;
  if (!(cause instanceof Database.SqliteError) || !cause.code.startsWith('SQLITE_BUSY'))
    return openingFailure(lockFile, error);
  return new VouchError(
    'config-in-use',
    `another vouch process uses this state directory (${lockFile} is locked): stop it first`,
    { cause },
  );
}
