import { randomBytes } from 'node:crypto';
import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { VouchError } from '../../core/errors.ts';

/** What a file holds; in parts where it is large. */
export type Content = string | Buffer | AsyncIterable<string>;

/** Numbers of the user and group that a file is given to; undefined: our own. */
export interface Owner {
  uid: number | undefined;
  gid: number | undefined;
}

const ourselves: Owner = { uid: undefined, gid: undefined };

/** Writes a new file and fsyncs it. The caller syncs the folder. Throws as `writeFailure` says. */
export async function writeDurably(
  path: string,
  content: Content,
  mode: number,
  owner = ourselves,
): Promise<void> {
  try {
    await writeNew(path, content, mode, owner);
  } catch (error) {
    throw writeFailure(error, path);
  }
}

/** Puts `content` in place of `path` in one step: a reader sees the old file or the new one, whole, after a crash too. */
export async function replaceFile(
  path: string,
  content: Content,
  mode: number,
  owner = ourselves,
): Promise<void> {
  const fresh = `${path}.${randomBytes(6).toString('hex')}`;
  try {
    await writeNew(fresh, content, mode, owner);
    await rename(fresh, path);
    await syncFolder(dirname(path));
  } catch (error) {
    await rm(fresh, { force: true });
    throw writeFailure(error, path);
  }
}

/** For us alone until it has its owner; then the mode again, which open's umask may have cut. */
async function writeNew(path: string, content: Content, mode: number, { uid, gid }: Owner): Promise<void> {
  const file = await open(path, 'wx', mode & 0o600);
  try {
    if (uid !== undefined || gid !== undefined) await file.chown(uid ?? -1, gid ?? -1);
    await file.chmod(mode);
    if (typeof content === 'string' || Buffer.isBuffer(content)) await file.writeFile(content);
    else for await (const part of content) await file.writeFile(part);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes the names in a folder durable. */
export async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** `unavailable-store` for a full disk, which may pass, and `config-state` for a folder that cannot be written. */
export function writeFailure(error: unknown, path: string): unknown {
  if (!(error instanceof Error) || !('code' in error) || error instanceof VouchError) return error;
  if (error.code === 'ENOSPC' || error.code === 'EDQUOT' || error.code === 'EIO')
    return new VouchError(
      'unavailable-store',
      `${path} cannot be written (${error.code}): make room and run this again; the same key is used, nothing is lost`,
      { cause: error },
    );
  if (error.code === 'ENOENT')
    return new VouchError('config-state', `${path} cannot be written: its folder is gone`, { cause: error });
  if (error.code === 'EEXIST' || error.code === 'ENOTDIR')
    return new VouchError('config-state', `${path} is, or lies below, what is no folder`, { cause: error });
  return new VouchError(
    'config-state',
    `${path} cannot be written (${String(error.code)}): may this user write there?`,
    {
      cause: error,
    },
  );
}
