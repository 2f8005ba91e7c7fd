import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getRawAsset } from 'node:sea';

/** Name of the addon among the assets of the executable; `scripts/build-sea.mjs` puts it there. */
const asset = 'linux.node';

/**
 * Loads the addon out of a single-file executable. The dynamic linker takes it from a file alone: it lies in a folder of
 * our own, which is gone when it is loaded. Throws where no folder can be written, or none may hold programs (noexec).
 */
export function embeddedAddon(): unknown {
  const contents = new Uint8Array(getRawAsset(asset));
  const failures: string[] = [];
  for (const folder of new Set([tmpdir(), '/run', '/dev/shm', '/var/tmp'])) {
    try {
      return loadThrough(folder, contents);
    } catch (error) {
      failures.push(String(error));
    }
  }
  throw new Error(`the addon can be loaded from nowhere: ${failures.join('; ')}`);
}

function loadThrough(folder: string, contents: Uint8Array): unknown {
  const own = mkdtempSync(join(folder, 'vouch-'));
  try {
    const file = join(own, asset);
    writeFileSync(file, contents, { mode: 0o500, flag: 'wx' });
    const loaded = { exports: {} };
    process.dlopen(loaded, file);
    return loaded.exports;
  } finally {
    rmSync(own, { recursive: true });
  }
}
