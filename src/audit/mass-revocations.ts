import type { StateRows, StoredMassRevocation } from '../store/rows-port.ts';
import type { Leaf } from '../log/leaf.ts';
import { bodyOf } from './json-body.ts';
import { LeafRows } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 256;

/** Holds mass revocations against the leaves that begin and end them; how many events one has so far, no leaf says. */
export class MassRevocationCheck {
  readonly #walk: LeafRows<StoredMassRevocation>;
  readonly #problems: Problems;
  /** Those that have not ended yet, with the leaf that ends them as stored. */
  readonly #open = new Map<number, number | null>();

  constructor(rows: StateRows, problems: Problems) {
    this.#problems = problems;
    this.#walk = new LeafRows(rows.massRevocations, pageRows, ({ leafIndex }) =>
      problems.add(`the mass revocation of leaf ${leafIndex} is not in the log`),
    );
  }

  leaf(leaf: Leaf, index: number): void {
    if (leaf.type !== 'operator') return;
    const body = bodyOf(leaf);
    if (body.verb === 'mass-revocation-begun') this.#begun(leaf, index);
    if (body.verb === 'mass-revocation-ended' && typeof body.begun === 'number')
      this.#ended(body.begun, index);
  }

  finish(): void {
    this.#walk.finish();
    for (const [begun, endedBy] of this.#open)
      if (endedBy !== null)
        this.#problems.add(`the mass revocation of leaf ${begun} has not ended, and the store says so`);
  }

  #begun(leaf: Leaf, index: number): void {
    const what = `the mass revocation of leaf ${index}`;
    const row = this.#walk.at(index);
    if (!row) return this.#problems.add(`${what} is not in the store`);
    const { target, reason, invalidityDateSeconds = null, operator } = bodyOf(leaf);
    const startedAtMs = leaf.timeMs;
    this.#problems.compare(what, row, { target, reason, invalidityDateSeconds, operator, startedAtMs });
    this.#open.set(index, row.endedBy);
  }

  #ended(begun: number, index: number): void {
    const endedBy = this.#open.get(begun);
    if (endedBy !== undefined && endedBy !== index)
      this.#problems.add(
        `the mass revocation of leaf ${begun} ended by leaf ${index}, and the store does not know`,
      );
    this.#open.delete(begun);
  }
}
