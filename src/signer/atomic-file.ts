import { open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

/**
 * Replaces a file (0600) so that a crash at any moment leaves the old or the new text, never a part: written beside it,
 * synced, renamed, folder synced. One writer at a time for a file.
 */
export async function writeAtomically(file: string, text: string): Promise<void> {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    const handle = await open(temporary, 'w', 0o600);
    try {
      await handle.writeFile(text);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  await syncFolder(dirname(file));
}

/** Removes what killed writers of the file left behind. */
export async function removeLeftovers(file: string): Promise<void> {
  const folder = dirname(file);
  const pattern = new RegExp(`^${basename(file).replaceAll('.', '\\.')}\\.\\d+\\.tmp$`);
  for (const name of await readdir(folder))
    if (pattern.test(name)) await rm(join(folder, name), { force: true });
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
