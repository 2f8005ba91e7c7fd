import type { Recorder } from './record.ts';
import { type Config, statePaths } from '../../config/config.ts';
import { systemClock } from '../../core/clock.ts';
import { commitAll } from '../../store/commit.ts';
import { lockState } from '../../store/sqlite/lock.ts';
import { openSqliteStore } from '../../store/sqlite/store.ts';

/** Has something recorded in a state that no server runs on. Throws `config-in-use` where one holds it after all. */
export async function intoStopped<T>(config: Config, work: (recorder: Recorder) => Promise<T>): Promise<T> {
  const { lock, database } = statePaths(config.state);
  const held = lockState(lock);
  try {
    const store = openSqliteStore(database);
    try {
      return await work({
        store,
        commit: (mutations) => commitAll(store, mutations),
        storeSigned: (signed) => store.storeSigned(signed),
        operator: `uid:${process.getuid?.() ?? 'unknown'}`,
        nowMs: systemClock.now(),
      });
    } finally {
      await store.close();
    }
  } finally {
    held.release();
  }
}
