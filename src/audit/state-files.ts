import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { statePaths } from '../config/config.ts';
import { VouchError } from '../core/errors.ts';
import { openFileTiles } from '../log/file-tiles.ts';
import type { TileIo } from '../log/tiles.ts';

/** A floor.json, by its path in the state; no text where there is none. */
export interface FloorFile {
  what: string;
  text: string | undefined;
}

/** What of a state lies beside its database. */
export interface StateFiles {
  /** Each signer's floor.json; a signer with a state of its own keeps it there. */
  floors: FloorFile[];
  readTile: TileIo['readTile'];
}

/**
 * Reads the files of a state. Before the database is opened: the signer goes on, and a floor that was read later could
 * be ahead of what the database was then. Throws `config-state` for what this user may not read.
 */
export function readStateFiles(state: string): StateFiles {
  const { signer, standbySigner, logTiles } = statePaths(state);
  const floors = [signer, standbySigner].filter((folder) => existsSync(folder));
  return {
    floors: floors.map((folder) => {
      const file = path.join(folder, 'floor.json');
      return { what: path.relative(state, file), text: readFloor(file) };
    }),
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
