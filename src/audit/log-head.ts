import { Frontier } from '../log/merkle.ts';
import type { Problems } from './verification.ts';

/** A tree that somebody signed or saw: the log must have had this root at this size. */
export interface Head {
  /** Where it stands. */
  what: string;
  treeSize: number;
  rootHash: Buffer;
}

/** Recomputes the tree and holds its root against every head that it passes. */
export class HeadCheck {
  readonly #frontier = Frontier.empty();
  readonly #heads: readonly Head[];
  readonly #problems: Problems;

  constructor(heads: readonly Head[], problems: Problems) {
    this.#heads = heads;
    this.#problems = problems;
  }

  leaf(leafHash: Buffer): void {
    this.#frontier.append(leafHash);
    for (const { what, treeSize, rootHash } of this.#heads)
      if (treeSize === this.#frontier.size && !rootHash.equals(this.#frontier.root()))
        this.#problems.add(
          `the root over the first ${treeSize} leaves is not the one that the log key signed, says ${what}`,
        );
  }

  /** Root over all leaves, hex. */
  finish(treeSize: number): string {
    for (const head of this.#heads)
      if (head.treeSize > treeSize)
        this.#problems.add(
          `${head.what} covers ${head.treeSize} leaves, the store has ${treeSize}: the state was rewound`,
        );
    return this.#frontier.root().toString('hex');
  }
}
