import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { statePaths } from '../config/config.ts';
import { VouchError } from '../core/errors.ts';
import { openFileTiles } from '../log/file-tiles.ts';
import type { TileIo } from '../log/tiles.ts';

/** What of a state lies beside its database. */
export interface StateFiles {
  /** Text of the signer's floor.json, undefined where there is none; a signer with a state of its own keeps it there. */
  signer: { floor: string | undefined } | undefined;
  readTile: TileIo['readTile'];
}

/**
 * Reads the files of a state. Before the database is opened: the signer goes on, and a floor that was read later could
 * be ahead of what the database was then. Throws `config-state` for what this user may not read.
 */
export function readStateFiles(state: string): StateFiles {
  const { signer, logTiles } = statePaths(state);
  return {
    signer: existsSync(signer) ? { floor: readFloor(path.join(signer, 'floor.json')) } : undefined,
    readTile: openFileTiles(logTiles).readTile,
  };
}

function readFloor(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new VouchError(
      'config-state',
      `cannot read ${file}: run it as the user whose file it is, or as root`,
      {
        cause,
      },
    );
  }
}
