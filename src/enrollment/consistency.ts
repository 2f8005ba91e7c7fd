import { VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { consistencyPath, rangeHasher } from '../log/merkle.ts';
import { type LogKey, openCheckpoint } from '../log/note.ts';
import type { TileTree } from '../log/tiles.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';

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

/**
 * I10: a checkpoint that our own log key signed, larger than our log or over another tree, proves that this state was
 * set back or split. Issuance stops until an operator acts. What does not verify proves nothing and is ignored.
 */
export function haltIfRewound(
  seen: SeenLog,
  parts: { logKey: LogKey; tree: TileTree; sequencer: Sequencer },
): void {
  const checkpoint = ownCheckpoint(seen.checkpoint, parts.logKey);
  if (!checkpoint) return;
  const { tree, sequencer } = parts;
  if (checkpoint.treeSize > tree.size)
    sequencer.halt(
      new VouchError(
        'integrity-rewind',
        `an agent has seen ${checkpoint.treeSize} leaves, this log has ${tree.size}: it was set back`,
      ),
    );
  else if (!checkpoint.rootHash.equals(tree.root(checkpoint.treeSize)))
    sequencer.halt(
      new VouchError(
        'integrity-log',
        `an agent has seen another tree of ${checkpoint.treeSize} leaves: there are two logs`,
      ),
    );
}

/** The proof that the tree an agent has seen is a beginning of ours; undefined where it has seen none of this log. */
export function consistencyWith(
  seen: SeenLog,
  checkpoint: Checkpoint,
  parts: { logKey: LogKey; tree: TileTree },
): Consistency | undefined {
  if (seen.checkpoint !== undefined && !ownCheckpoint(seen.checkpoint, parts.logKey)) return undefined;
  const { treeSize } = seen;
  if (treeSize === undefined || treeSize === 0 || treeSize > checkpoint.treeSize) return undefined;
  return { treeSize, path: consistencyPath(treeSize, checkpoint.treeSize, rangeHasher(parts.tree)) };
}

function ownCheckpoint(note: string | undefined, logKey: LogKey): Checkpoint | undefined {
  if (note === undefined) return undefined;
  try {
    return openCheckpoint(note, [logKey], logKey.name);
  } catch {
    return undefined;
  }
}
