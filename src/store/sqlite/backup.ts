import { randomBytes } from 'node:crypto';
import { chmodSync, closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { VouchError } from '../../core/errors.ts';
import type { Connection } from './connection.ts';
import { connect } from './connection.ts';

/**
 * Writes a consistent copy of an open database to `file` while it is in use: one file, mode 0600, complete and fsynced
 * before it appears under its name. An existing file is never replaced (it might be the database itself). Throws
 * `config-state` where the file cannot be written, `unavailable-store` where copying fails.
 */
export async function copyDatabase(db: Connection, file: string): Promise<void> {
  if (existsSync(file))
    throw new VouchError('config-state', `${file} exists: name a new file for the backup`);
  const partial = `${file}.partial-${randomBytes(6).toString('hex')}`;
  makePrivate(partial);
  try {
    await db.backup(partial);
    standAlone(partial);
    syncPath(partial);
    renameSync(partial, file);
    syncPath(dirname(file));
  } catch (error) {
    rmSync(partial, { force: true });
    rmSync(`${partial}-journal`, { force: true });
    throw new VouchError(
      'unavailable-store',
      `the backup to ${file} failed and was removed; is there room?`,
      { cause: error },
    );
  }
}

/** Flushes a file or directory to disk. Never call it on an open database: closing would drop SQLite's POSIX locks. */
export function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

function makePrivate(file: string): void {
  try {
    closeSync(openSync(file, 'wx', 0o600));
    chmodSync(file, 0o600);
  } catch (error) {
    throw new VouchError('config-state', `cannot write ${file}: its directory must exist and be writable`, {
      cause: error,
    });
  }
}

/** The copy says WAL in its header; in rollback mode it is one file that can be read where nothing can be written. */
function standAlone(file: string): void {
  const copy = connect(file);
  try {
    copy.pragma('journal_mode = DELETE');
  } finally {
    copy.close();
  }
}
