import { createHash } from 'node:crypto';
import { mkdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

/** A folder for what is made once from `parts`, kept in the user's cache from run to run. */
export function cacheFolder(kind: string, parts: readonly string[]): string {
  const key = createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 16);
  const cache = process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache');
  const folder = join(cache, 'vouch-tests', `${kind}-${key}`);
  mkdirSync(folder, { recursive: true });
  return folder;
}
