import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { statePaths } from '../config/config.ts';
import { VouchError } from '../core/errors.ts';
import { isPending, refusePending } from './pending-state.ts';
import { syncTree } from '../state.ts';
import { syncPath } from '../store/sqlite/backup.ts';
import { lockState } from '../store/sqlite/lock.ts';

/** Folder inside the state's in which a new state is made. */
const unfinished = 'init.unfinished';
/** What makes up a state besides its database. */
const parts = ['vouch.yaml', 'log', 'server', 'signer', 'standby-signer'];
/** Says, in the unfinished folder, that the log has begun: from then on there is no other beginning for its key. */
const begunMark = 'begun';
/** What stands in a directory that is empty all the same: SQLite's files of the lock, and in the root of an ext4 volume. */
const ofNobody = /^(?:lock\.db(?:-.*)?|lost\+found)$/;

/**
 * Makes a state (I10), whole or waiting for its ceremony: `fill` gets a folder, whose content becomes the state's. That
 * folder lies inside, so that the directory may be a mounted volume, and what makes it a state, the database or what is
 * waited for, comes last, in one rename: until then `vouch server` finds no state, and the next attempt clears away what
 * a crash left. The state's lock is held meanwhile. Throws `config-state`
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
    if (!isMade(state)) clear(state);
    if (isNew && namesIn(state).length === 0) rmSync(state, { recursive: true });
    throw error;
  } finally {
    held.release();
  }
}

/**
 * Completes a state that waits for its ceremony; `fill` and the lock as above. Until the log has begun, which `fill`
 * says by `begin`, a failure leaves the state waiting as before; after that the next attempt is given the same folder
 * again, with what `begin` noted: the log's key has signed, and a second beginning would look like a state put back.
 * Throws `config-state` where another attempt has completed it meanwhile, as while somebody compared the pin.
 */
export async function completeState<T>(
  state: string,
  fill: (working: UnfinishedState) => Promise<T>,
): Promise<T> {
  const held = lockState(statePaths(state).lock);
  const folder = path.join(state, unfinished);
  const mark = path.join(folder, begunMark);
  try {
    if (!isPending(state))
      throw new VouchError(
        'config-state',
        `${state} does not wait for a ceremony any more: another \`vouch init\` has completed it`,
      );
    const begun = begunBy(mark);
    if (begun !== undefined) takeBack(state, folder);
    else clearUnfinished(state);
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const begin = (what: string): void => {
      syncTree(folder);
      writeFileSync(mark, `${what}\n`, { mode: 0o600 });
      syncPath(mark);
      syncPath(folder);
    };
    const made = await fill({ folder, begun, begin });
    moveUp(folder, state);
    rmSync(statePaths(state).pending);
    syncPath(state);
    return made;
  } catch (error) {
    if (begunBy(mark) === undefined && isPending(state)) clearUnfinished(state);
    throw error;
  } finally {
    held.release();
  }
}

/** A state while it is completed. */
export interface UnfinishedState {
  folder: string;
  /** What an earlier attempt noted when the log began; undefined where it has not. */
  begun: string | undefined;
  begin: (what: string) => void;
}

/** What an attempt noted. A mark that was not written to its end is none: the log begins only when it is on disk. */
function begunBy(mark: string): string | undefined {
  return existsSync(mark) ? /^(.+)\n$/.exec(readFileSync(mark, 'utf8'))?.[1] : undefined;
}

/** What a crash in the middle of moving up has moved, but for the configuration, which is there all the time. */
function takeBack(state: string, folder: string): void {
  for (const name of parts.filter((part) => part !== 'vouch.yaml'))
    if (existsSync(path.join(state, name)) && !existsSync(path.join(folder, name)))
      renameSync(path.join(state, name), path.join(folder, name));
}

function clearUnfinished(state: string): void {
  for (const name of [unfinished, ...parts.filter((part) => part !== 'vouch.yaml')])
    rmSync(path.join(state, name), { recursive: true, force: true });
}

function isMade(state: string): boolean {
  const { database, pending } = statePaths(state);
  return existsSync(database) || existsSync(pending);
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
  refusePending(state);
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
  const last = existsSync(statePaths(working).database) ? 'vouch.db' : 'pending.json';
  readdirSync(working)
    .filter((name) => name !== last && name !== begunMark && !ofNobody.test(name))
    .forEach(move);
  syncPath(state);
  move(last);
  rmSync(working, { recursive: true });
  syncPath(state);
  syncPath(path.dirname(state));
}
