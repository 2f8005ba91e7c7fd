import { randomUUID } from 'node:crypto';
import { chmod, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { asVouchError, VouchError } from '../core/errors.ts';
import { inTurn } from '../jobs/in-turn.ts';
import type { PublishedDocument, PublishTarget } from './port.ts';

/** Of Vouch itself, 0700: the lock, the version of each path, files that are being written. */
const ownFolder = '.vouch';
/** A file that somebody still writes is younger. */
const abandonedAfterMs = 3_600_000;
const publishedPath = /^(?:\/\.well-known)?(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]*)+$/;

/** A directory and how it is locked. */
export interface DirectoryParts {
  /** Absolute; it must exist, so that a volume that is not mounted is no empty one. */
  directory: string;
  /** Takes an exclusive lock that ends with this process. Throws `config-in-use` at once where somebody has it. */
  lock: (file: string) => { release(): void };
}

/**
 * A directory that a web server serves. A document is written aside, synced, and renamed into its place; which version a path has
 * is durable before that, under the lock of the directory, so that neither a crash nor a second writer takes one back.
 */
export function openDirectoryTarget({ directory, lock }: DirectoryParts): PublishTarget {
  const own = path.join(directory, ownFolder);
  const putLocked = inTurn(async (aside: string, at: string, document: PublishedDocument) => {
    const held = lock(path.join(own, 'lock.db'));
    try {
      await putInPlace(aside, { directory, own, at }, document);
    } finally {
      held.release();
    }
  });
  let cleared: Promise<void> | undefined;
  return {
    name: `directory ${directory}`,
    // A file system that hangs keeps a thread of Node's pool, of which there are four for everything.
    atOnce: 1,
    put: async (at, document, signal) => {
      if (!publishedPath.test(at)) throw new Error(`no path to publish at: ${at}`);
      try {
        await makeFolder(own, 0o700);
        cleared ??= clearAbandoned(own);
        await cleared;
        const aside = path.join(own, `${randomUUID()}.new`);
        try {
          await writeSynced(aside, document.chunks, 0o644, signal);
          await putLocked(aside, at, document);
        } finally {
          await rm(aside, { force: true });
        }
      } catch (error) {
        throw failureOf(error);
      }
    },
  };
}

/** Under the lock. The version first: after a crash between the two, a lower one is refused and the same put again. */
async function putInPlace(
  aside: string,
  { directory, own, at }: { directory: string; own: string; at: string },
  { version }: PublishedDocument,
): Promise<void> {
  const file = path.join(directory, at);
  if (version !== undefined) {
    const versionFile = path.join(own, `${at.slice(1).replaceAll('/', ',')}.version`);
    const present = await versionOf(versionFile);
    if (present === undefined && (await exists(file)))
      throw new VouchError('config-state', `${file} was not put there by Vouch: move it away`);
    if (present !== undefined && version < present) return;
    if (version !== present) {
      const versionAside = `${versionFile}.new`;
      await writeSynced(versionAside, [Buffer.from(`${version}\n`)], 0o600);
      await rename(versionAside, versionFile);
      await syncFolder(own);
    }
  }
  await makeFolders(directory, path.dirname(at));
  await rename(aside, file);
  await syncFolder(path.dirname(file));
}

/** Throws where it is there and is no version: what stood in it might be the higher one. */
async function versionOf(file: string): Promise<bigint | undefined> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const [, digits] = /^(\d{1,60})\n$/.exec(text) ?? [];
  if (digits === undefined)
    throw new VouchError('config-state', `${file} is damaged: move the directory away`);
  return BigInt(digits);
}

async function writeSynced(
  file: string,
  chunks: readonly Buffer[],
  mode: number,
  signal?: AbortSignal,
): Promise<void> {
  await using handle = await open(file, 'w', mode);
  // The web server is another user, whatever our umask says.
  await handle.chmod(mode);
  await writeFile(handle, chunks, signal && { signal });
  await handle.sync();
}

async function makeFolders(directory: string, below: string): Promise<void> {
  let at = directory;
  for (const segment of below.split('/').filter((one) => one !== '')) {
    at = path.join(at, segment);
    await makeFolder(at, 0o755);
  }
}

async function makeFolder(folder: string, mode: number): Promise<void> {
  try {
    await mkdir(folder);
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return;
    throw error;
  }
  await chmod(folder, mode);
  await syncFolder(path.dirname(folder));
}

async function syncFolder(folder: string): Promise<void> {
  await using handle = await open(folder, 'r');
  await handle.sync();
}

/** What was being written when a process was killed. */
async function clearAbandoned(own: string): Promise<void> {
  const files = (await readdir(own))
    .filter((file) => file.endsWith('.new'))
    .map((file) => path.join(own, file));
  const newest = (await stat(own)).mtimeMs - abandonedAfterMs;
  for (const file of files) {
    const found = await stat(file).catch(() => undefined);
    if (found && found.mtimeMs < newest) await rm(file, { force: true });
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    (error: unknown) => {
      if (codeOf(error) === 'ENOENT') return false;
      throw error;
    },
  );
}

function failureOf(error: unknown): VouchError {
  if (asVouchError(error).code === 'config-in-use')
    return new VouchError('unavailable-server', 'another process writes there', { cause: error });
  const code = codeOf(error);
  if (error instanceof VouchError || code === undefined) return asVouchError(error);
  return new VouchError('unavailable-server', code, { cause: error });
}

function codeOf(error: unknown): string | undefined {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' && !(error instanceof VouchError) ? code : undefined;
}
