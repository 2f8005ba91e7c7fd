import { assert, VouchError } from '../../core/errors.ts';
import type { Connection } from './connection.ts';
import { fencedDetail, losesPages, storeFailure } from './failure.ts';

/** WAL frames (pages) not yet in the database file before they are moved there: 8 MiB, and milliseconds of recovery. */
const checkpointFrames = 2_000;

/** `PRAGMA wal_checkpoint`: whether it was kept from finishing, frames in the WAL, frames already in the database. */
type WalState = [busy: number, frames: number, moved: number];

/**
 * Runs transactions on one connection and decides what a failure means. When it says done, the WAL was fsynced; when it
 * throws, nothing was acknowledged. After a failed fsync it fences itself: what SQLite believes written may be lost, so
 * no later commit may build on it, and only a restart, which reads the disk again, clears that.
 */
export class Committer {
  readonly #db: Connection;
  readonly #statements: ReturnType<typeof prepareTransaction>;
  #fenced = false;
  #checkpoint: NodeJS.Immediate | undefined;

  constructor(db: Connection) {
    this.#db = db;
    this.#statements = prepareTransaction(db);
  }

  get fenced(): boolean {
    return this.#fenced;
  }

  /** Runs `work` in one IMMEDIATE transaction. Throws `unavailable-store`, `unavailable-stopping`, `integrity-state`. */
  run<T>(work: () => T): T {
    if (this.#fenced) throw new VouchError('unavailable-store', fencedDetail);
    if (!this.#db.open)
      throw new VouchError('unavailable-stopping', 'the store is closed: the server is stopping');
    assert(!this.#db.inTransaction, 'one transaction at a time');
    let result: T;
    try {
      this.#statements.begin.run();
      result = work();
      this.#statements.commit.run();
    } catch (error) {
      this.#abandon(error);
      throw storeFailure(error);
    }
    this.#scheduleCheckpoint();
    return result;
  }

  /** Before the connection is closed, which moves the rest of the WAL. */
  stop(): void {
    clearImmediate(this.#checkpoint);
  }

  /** A failed COMMIT leaves its transaction open. */
  #abandon(error: unknown): void {
    if (losesPages(error)) this.#fenced = true;
    try {
      if (this.#db.inTransaction) this.#statements.rollback.run();
    } catch {
      this.#fenced = true;
    }
  }

  /** After the answer is on its way, since it costs milliseconds; SQLite's own would run inside a commit. */
  #scheduleCheckpoint(): void {
    if (this.#checkpoint !== undefined) return;
    const [, frames, moved] = this.#statements.walState.get() ?? [0, 0, 0];
    if (frames - moved < checkpointFrames) return;
    this.#checkpoint = setImmediate(() => {
      this.#checkpoint = undefined;
      this.#moveWal();
    });
  }

  /** What is not moved now stays in the WAL, durable, for the next time; unless the disk dropped pages. */
  #moveWal(): void {
    if (this.#fenced || !this.#db.open) return;
    try {
      this.#statements.moveWal.get();
    } catch (error) {
      if (losesPages(error)) this.#fenced = true;
    }
  }
}

function prepareTransaction(db: Connection) {
  return {
    begin: db.prepare<[]>('BEGIN IMMEDIATE'),
    commit: db.prepare<[]>('COMMIT'),
    rollback: db.prepare<[]>('ROLLBACK'),
    walState: db.prepare<[], WalState>('PRAGMA wal_checkpoint(NOOP)').raw(),
    moveWal: db.prepare<[], WalState>('PRAGMA wal_checkpoint(PASSIVE)').raw(),
  };
}
