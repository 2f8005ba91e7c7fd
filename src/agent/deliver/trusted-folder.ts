import type { Stats } from 'node:fs';
import { lstat, mkdir, readlink } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { VouchError } from '../../core/errors.ts';
import { writeFailure } from './durable-file.ts';

const maxLinks = 16;

/**
 * Makes a folder where it is missing, and gives its path without symbolic links. Neither it nor any folder or link on the
 * way to it may be in the hands of others than root and us: they could put theirs in its place and have us write, or
 * remove, wherever we may. On the way a sticky folder such as /tmp will do. Throws `config-state`.
 */
export async function makeTrustedFolder(dir: string, links = 0): Promise<string> {
  let path = '/';
  const names = dir.split('/').filter((name) => name !== '');
  for (const [index, name] of names.entries()) {
    path = join(path, name);
    const found = await madeFolder(path);
    assertTrusted(path, found, index < names.length - 1);
    if (!found.isSymbolicLink()) continue;
    if (links === maxLinks) throw refusal(path, 'is one symbolic link too many');
    const target = resolve(path, '..', await readlink(path), ...names.slice(index + 1));
    return makeTrustedFolder(target, links + 1);
  }
  return path;
}

/** One step at a time: what is made is looked at, too. */
async function madeFolder(path: string): Promise<Stats> {
  try {
    return await lstat(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw writeFailure(error, path);
  }
  try {
    await mkdir(path, { mode: 0o755 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw writeFailure(error, path);
  }
  return lstat(path);
}

function assertTrusted(path: string, found: Stats, isOnTheWay: boolean): void {
  if (found.uid !== 0 && found.uid !== process.geteuid?.())
    throw refusal(
      path,
      `belongs to uid ${found.uid}, who could put another in its place: \`chown root ${path}\`; the files in it get their owner one by one`,
    );
  if (found.isSymbolicLink()) return;
  if (!found.isDirectory()) throw refusal(path, 'is no folder');
  const isSticky = (found.mode & 0o1000) !== 0;
  if ((found.mode & 0o022) !== 0 && !(isSticky && isOnTheWay))
    throw refusal(
      path,
      `can be written by others (mode 0${(found.mode & 0o7777).toString(8)}): \`chmod go-w ${path}\``,
    );
}

function refusal(path: string, why: string): VouchError {
  return new VouchError('config-state', `nothing is delivered, since ${path} ${why}`);
}
