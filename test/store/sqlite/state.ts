import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createSqliteStore, openSqliteStore } from '../../../src/store/sqlite/store.ts';
import type { StoreHarness } from '../conformance.ts';
import { identity } from '../fixture.ts';

/** A directory of its own; gone with `remove`. */
export function temporaryDirectory(): { path: string; remove: () => void } {
  const path = mkdtempSync(join(tmpdir(), 'vouch-store-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** A fresh SQLite state for the conformance suite. */
export async function sqliteHarness(): Promise<StoreHarness> {
  const directory = temporaryDirectory();
  const file = join(directory.path, 'vouch.db');
  let store = createSqliteStore(file, identity);
  return {
    store,
    second: async () => openSqliteStore(file),
    reopen: async () => {
      await store.close();
      store = openSqliteStore(file);
      return store;
    },
    dispose: async () => {
      await store.close();
      directory.remove();
    },
  };
}
