import { closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { VouchError } from '../core/errors.ts';
import { type TileIo, tilePath } from './tiles.ts';

/**
 * Full tiles as files `<directory>/tile/<level>/<index>` in C2SP's layout. A tile is written aside, synced and
 * renamed, so that a crash leaves it whole or absent; one that exists is never replaced by other bytes. Reading throws
 * `integrity-log`, writing `unavailable-store` (a full disk) or `integrity-log`.
 */
export function openFileTiles(directory: string): TileIo {
  return {
    readTile: (level, index) => readTile(join(directory, tilePath(level, index))),
    writeTile: (level, index, bytes) => writeTile(join(directory, tilePath(level, index)), bytes),
  };
}

function readTile(file: string): Buffer | undefined {
  try {
    return readFileSync(file);
  } catch (cause) {
    if (codeOf(cause) === 'ENOENT') return undefined;
    throw new VouchError(
      'integrity-log',
      'a log tile cannot be read: check permissions and disk of the state directory',
      { cause },
    );
  }
}

function writeTile(file: string, bytes: Buffer): void {
  const present = readTile(file);
  if (present?.equals(bytes)) return;
  if (present)
    throw new VouchError(
      'integrity-log',
      'a log tile on disk differs from the tree; the state was altered or mixed with another',
    );
  try {
    const folder = dirname(file);
    const made = mkdirSync(folder, { recursive: true, mode: 0o700 });
    const aside = `${file}.new`;
    writeFileSync(aside, bytes, { mode: 0o600, flush: true });
    renameSync(aside, file);
    syncFolder(folder);
    // New folders are durable only when each folder above them is synced, too.
    for (let at = folder; made !== undefined && at.length >= made.length; at = dirname(at))
      syncFolder(dirname(at));
  } catch (cause) {
    throw new VouchError(
      'unavailable-store',
      'a log tile cannot be written: free disk space or repair the state directory',
      { cause },
    );
  }
}

function syncFolder(folder: string): void {
  const descriptor = openSync(folder, 'r');
  try {
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
}

function codeOf(error: unknown): unknown {
  return error instanceof Error && 'code' in error ? error.code : undefined;
}
