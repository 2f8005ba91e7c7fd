import {
  accessSync,
  constants,
  existsSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
} from 'node:fs';
import path from 'node:path';
import { statePaths } from './config/config.ts';
import { VouchError } from './core/errors.ts';
import { refusePending } from './init/pending-state.ts';
import type { Store, StoreReader } from './store/port.ts';
import { syncPath } from './store/sqlite/backup.ts';
import { embedFiles } from './store/sqlite/backup-files.ts';
import { lockState } from './store/sqlite/lock.ts';
import { type MigrationReport, migrate } from './store/sqlite/migrations.ts';
import { openSqliteStore } from './store/sqlite/store.ts';

/** Reads a state as it is now, beside a running server; `work` must not keep the reader. */
export async function readingState<T>(
  state: string,
  work: (store: StoreReader) => T | Promise<T>,
): Promise<T> {
  refusePending(state);
  const store = openSqliteStore(statePaths(state).database, { readonly: true });
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

/**
 * Throws `config-secret-readable` where group or others may read the server's TLS key (I8). The modes of the folder and
 * of what is no key are `vouch doctor`'s to mind: copies of a state lose them.
 */
export function refuseReadableKey(state: string): void {
  const { serverKey } = statePaths(state);
  const mode = statSync(serverKey, { throwIfNoEntry: false })?.mode ?? 0;
  if (__VOUCH_WITHOUT__ !== 'I8' && (mode & 0o077) !== 0)
    throw new VouchError(
      'config-secret-readable',
      `others can read ${serverKey}; run: chmod 600 ${serverKey}`,
    );
}

/** Everything below a folder, then the folder, is on disk when it returns. Not for a state in use: see `syncPath`. */
export function syncTree(folder: string): void {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const inside = path.join(folder, entry.name);
    if (entry.isDirectory()) syncTree(inside);
    else if (entry.isFile()) syncPath(inside);
  }
  syncPath(folder);
}

/** Brings a state that no server uses to this version's schema; makes a backup first. */
export async function migrateState(state: string): Promise<MigrationReport> {
  const { lock, database } = statePaths(state);
  const held = lockState(lock);
  try {
    return await migrate(database);
  } finally {
    held.release();
  }
}

/** A server that may write next to nothing (its unit says so) is asked for a file somewhere else easily. */
function refuseUnwritable(folder: string): void {
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    throw new VouchError(
      'config-state',
      `the server cannot write in ${folder} (${code}); name a file in its state directory and take it away from there`,
      { cause },
    );
  }
}

/**
 * Copies a state in use into one file: the database, the configuration and what the signer may do. Keys stay in the
 * tokens, and floor and guard are left out on purpose: a backup must not carry the marks that tell it from the present.
 */
export async function backupState(store: Store, state: string, file: string): Promise<void> {
  if (existsSync(file))
    throw new VouchError('config-state', `${file} exists: name a new file for the backup`);
  refuseUnwritable(path.dirname(file));
  const partial = `${file}.incomplete`;
  rmSync(partial, { force: true });
  try {
    await store.backup(partial);
    const { config, authority, standbyAuthority } = statePaths(state);
    const readable = [config, authority, standbyAuthority].filter((one) => existsSync(one));
    embedFiles(
      partial,
      readable.map((one) => ({ path: path.relative(state, one), bytes: readFileSync(one) })),
    );
    syncPath(partial);
    renameSync(partial, file);
    syncPath(path.dirname(file));
  } finally {
    rmSync(partial, { force: true });
  }
}
