import { VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { consistencyPath, rangeHasher } from '../log/merkle.ts';
import { type LogKey, openCheckpoint } from '../log/note.ts';
import type { TileTree } from '../log/tiles.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { Store } from '../store/port.ts';

/** RFC 6962 consistency path from the tree of `treeSize` to a checkpoint's. */
export interface Consistency {
  treeSize: number;
  path: Buffer[];
}

/** What an agent says it has seen of the log. */
export interface SeenLog {
  treeSize?: number | undefined;
  /** A signed note: it can prove that this server was set back. */
  checkpoint?: string | undefined;
}

/** Where such a proof stops issuance, and is kept so that a restart does not forget it. */
export interface RewindGuard {
  logKeys: readonly LogKey[];
  tree: TileTree;
  sequencer: Sequencer;
  store: Pick<Store, 'rewindEvidence' | 'keepRewindEvidence'>;
}

/**
 * I10: a checkpoint that one of our log keys signed, larger than our log or over another tree, proves that this state was
 * set back or split. Issuance stops until an operator acts, over restarts, too. What does not verify proves nothing and
 * is ignored.
 */
export function haltIfRewound(seen: SeenLog, { logKeys, tree, sequencer, store }: RewindGuard): void {
  const checkpoint = ownCheckpoint(seen.checkpoint, logKeys);
  const reason = checkpoint && contradiction(checkpoint, tree);
  if (!checkpoint || !reason) return;
  sequencer.halt(reason);
  if (store.rewindEvidence() === undefined)
    // A store that takes no writes is a reason to stop of its own.
    store.keepRewindEvidence(checkpoint.note).catch(() => undefined);
}

function contradiction({ treeSize, rootHash }: Checkpoint, tree: TileTree): VouchError | undefined {
  if (treeSize > tree.size)
    return new VouchError(
      'integrity-rewind',
      `an agent has seen ${treeSize} leaves, this log has ${tree.size}: it was set back; restore the newest backup`,
    );
  return rootHash.equals(tree.root(treeSize))
    ? undefined
    : new VouchError(
        'integrity-log',
        `an agent has seen another tree of ${treeSize} leaves: there are two logs; find out which one is true`,
      );
}

/** The proof that the tree an agent has seen is a beginning of ours; undefined where it has seen none of this log. */
export function consistencyWith(
  seen: SeenLog,
  checkpoint: Checkpoint,
  parts: { logKeys: readonly LogKey[]; tree: TileTree },
): Consistency | undefined {
  if (seen.checkpoint !== undefined && !ownCheckpoint(seen.checkpoint, parts.logKeys)) return undefined;
  const { treeSize } = seen;
  if (treeSize === undefined || treeSize === 0 || treeSize > checkpoint.treeSize) return undefined;
  return { treeSize, path: consistencyPath(treeSize, checkpoint.treeSize, rangeHasher(parts.tree)) };
}

function ownCheckpoint(note: string | undefined, logKeys: readonly LogKey[]): Checkpoint | undefined {
  if (note === undefined) return undefined;
  try {
    return openCheckpoint(note, logKeys, logKeys[0]?.name);
  } catch {
    return undefined;
  }
}
