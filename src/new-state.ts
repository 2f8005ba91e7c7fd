import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { statePaths } from './config/config.ts';
import { VouchError } from './core/errors.ts';
import { syncTree } from './state.ts';
import { syncPath } from './store/sqlite/backup.ts';
import { lockState } from './store/sqlite/lock.ts';

/** Folder inside the state's in which a new state is made. */
const unfinished = 'init.unfinished';
/** What makes up a state besides its database. */
const parts = ['vouch.yaml', 'log', 'server', 'signer'];
/** What stands in a directory that is empty all the same: SQLite's files of the lock, and in the root of an ext4 volume. */
const ofNobody = /^(?:lock\.db(?:-.*)?|lost\+found)$/;

/**
 * Makes a state (I10): `fill` gets a folder, whose content becomes the state's. That folder lies inside, so that the
 * directory may be a mounted volume, and the database comes last, in one rename: until then `vouch server` finds no
 * state, and the next attempt clears away what a crash left. The state's lock is held meanwhile. Throws `config-state`
 * where a state or anything else is there, `config-in-use` where another one is being made.
 */
export async function makeState<T>(state: string, fill: (folder: string) => Promise<T>): Promise<T> {
  const isNew = claim(state);
  const held = lockState(statePaths(state).lock);
  try {
    // Another one may have been at it until a moment ago.
    refuseOccupied(state);
    clear(state);
    const working = path.join(state, unfinished);
    mkdirSync(working, { mode: 0o700 });
    const made = await fill(working);
    moveUp(working, state);
    return made;
  } catch (error) {
    if (!existsSync(statePaths(state).database)) clear(state);
    if (isNew && namesIn(state).length === 0) rmSync(state, { recursive: true });
    throw error;
  } finally {
    held.release();
  }
}

/** A directory of our own, 0700; true where it was not there. */
function claim(state: string): boolean {
  try {
    const isNew = !existsSync(state);
    if (isNew) mkdirSync(state, { mode: 0o700 });
    else refuseOccupied(state);
    chmodSync(state, 0o700);
    return isNew;
  } catch (cause) {
    if (cause instanceof VouchError) throw cause;
    const { code } = cause as NodeJS.ErrnoException;
    throw new VouchError(
      'config-state',
      `cannot make ${state} (${code}): the folder above it must exist, and you must be allowed to write there`,
      { cause },
    );
  }
}

function refuseOccupied(state: string): void {
  const names = namesIn(state);
  const isLeftOver =
    names.includes(unfinished) && names.every((name) => [unfinished, ...parts].includes(name));
  if (names.length === 0 || isLeftOver) return;
  throw new VouchError(
    'config-state',
    `${state} is not empty; \`vouch init\` runs once. Start it with \`vouch server --config ${statePaths(state).config}\``,
  );
}

function namesIn(state: string): string[] {
  return readdirSync(state).filter((name) => !ofNobody.test(name));
}

function clear(state: string): void {
  for (const name of [unfinished, ...parts]) rmSync(path.join(state, name), { recursive: true, force: true });
}

function moveUp(working: string, state: string): void {
  syncTree(working);
  const move = (name: string): void => renameSync(path.join(working, name), path.join(state, name));
  readdirSync(working)
    .filter((name) => name !== 'vouch.db' && !ofNobody.test(name))
    .forEach(move);
  syncPath(state);
  move('vouch.db');
  rmSync(working, { recursive: true });
  syncPath(state);
  syncPath(path.dirname(state));
}
