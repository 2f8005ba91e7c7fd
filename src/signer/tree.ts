import { VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { Frontier, hashLeaf, verifyInclusion } from '../log/merkle.ts';
import type { Mark } from './marks.ts';
import { Recent, RecentHashes } from './recent.ts';

/** Leaf hashes and roots that are remembered: what a server may still have to ask about after a crash. */
const rememberedLeaves = 65_536;
const rememberedRoots = 4096;

/** The tree as the signer itself hashed it: the only one it signs a checkpoint for (I11). */
export class SignerTree {
  readonly #frontier: Frontier;
  /** Leaf hashes hashed in this life, by index. */
  readonly #leaves = new RecentHashes(rememberedLeaves);
  /** Roots computed in this life, by tree size. */
  readonly #roots = new Recent<Buffer>(rememberedRoots);
  /** Marks above the size so far, to be compared when the tree gets there. */
  #marks: readonly Mark[];

  private constructor(frontier: Frontier, marks: readonly Mark[]) {
    this.#frontier = frontier;
    this.#marks = marks;
    this.#compareMarks();
    this.root();
  }

  /**
   * Takes up a tree from a checkpoint whose signature was verified. Throws `integrity-log` where the peaks are not
   * that tree's, `integrity-rewind` where a mark at its size has another root.
   */
  static resume(checkpoint: Checkpoint, peaks: readonly Buffer[], marks: readonly Mark[]): SignerTree {
    const frontier = Frontier.fromPeaks(checkpoint.treeSize, peaks);
    if (__VOUCH_WITHOUT__ !== 'I11' && !frontier.root().equals(checkpoint.rootHash))
      throw new VouchError(
        'integrity-log',
        'the stored tree is not the one of its checkpoint; restore a backup',
      );
    return new SignerTree(frontier, marks);
  }

  /** The tree without leaves, for `vouch init` and `vouch restore`; the marks are those of an attempt that was cut short. */
  static genesis(marks: readonly Mark[]): SignerTree {
    return new SignerTree(Frontier.empty(), marks);
  }

  get size(): number {
    return this.#frontier.size;
  }

  /** Root over all leaves; remembered. */
  root(): Buffer {
    const known = this.#roots.get(this.size);
    if (known) return known;
    const root = this.#frontier.root();
    this.#roots.set(this.size, root);
    return root;
  }

  /** Appends a leaf's bytes. Throws `integrity-rewind` where it leads past a mark by another way. */
  append(leaf: Buffer): void {
    const hash = hashLeaf(leaf);
    this.#leaves.set(this.size, hash);
    this.#frontier.append(hash);
    if (this.#marks.length > 0) this.#compareMarks();
  }

  /** Ends taking up. Throws `integrity-rewind` where the tree is smaller than a mark. */
  finishResume(): void {
    const above = this.#marks.toSorted((a, b) => b.treeSize - a.treeSize)[0];
    this.#marks = [];
    if (__VOUCH_WITHOUT__ === 'I11' || !above) return;
    throw new VouchError(
      'integrity-rewind',
      `the log ends at ${this.size} leaves, but this signer has signed ${above.treeSize}: the state was put back; ` +
        'bring the newer state, or use `vouch restore`, which says what may be missing',
    );
  }

  /**
   * True when the leaf stands at `index`: it is one that was hashed here, or its path leads to a root that was
   * computed here (I1).
   */
  holds(claim: { leaf: Buffer; index: number; treeSize: number; path: readonly Buffer[] }): boolean {
    const leafHash = hashLeaf(claim.leaf);
    if (this.#leaves.has(claim.index, leafHash)) return true;
    const rootHash = this.#roots.get(claim.treeSize);
    const { index, treeSize } = claim;
    return (
      rootHash !== undefined &&
      verifyInclusion({ index, treeSize, leafHash, path: [...claim.path], rootHash })
    );
  }

  /** True where a root of that size was computed here, so that paths to it can be judged. */
  knowsRoot(treeSize: number): boolean {
    return this.#roots.get(treeSize) !== undefined;
  }

  #compareMarks(): void {
    const reached = this.#marks.filter((mark) => mark.treeSize === this.size);
    // Below the checkpoint nothing can be compared, and need not be: the log key itself signed the larger tree.
    this.#marks = this.#marks.filter((mark) => mark.treeSize > this.size);
    if (reached.length === 0) return;
    const root = this.root();
    if (__VOUCH_WITHOUT__ !== 'I11' && !reached.every((mark) => mark.rootHash.equals(root)))
      throw new VouchError(
        'integrity-rewind',
        `the log's first ${this.size} leaves are not the ones this signer has signed; the state was exchanged or ` +
          'put back: bring the right one, or use `vouch restore`',
      );
  }
}
