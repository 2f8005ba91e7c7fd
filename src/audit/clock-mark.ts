import type { Leaf } from '../log/leaf.ts';
import { bodyOf } from './json-body.ts';
import type { Problems } from './verification.ts';

/** The mark is written before a server issues anything and each second from then on; a clock may jump a minute ahead. */
const maxAheadMs = 120_000;

/**
 * The clock mark stands in no leaf, since it moves each second; but no certificate is dated far ahead of it, unless an
 * operator took the clock back since. Who sets it back makes an old time believable (I12).
 */
export class ClockMarkCheck {
  readonly #markMs: number;
  readonly #problems: Problems;
  #newest: { index: number; timeMs: number } | undefined;

  constructor(markMs: number, problems: Problems) {
    this.#markMs = markMs;
    this.#problems = problems;
  }

  leaf(leaf: Leaf, index: number): void {
    if (leaf.type === 'operator' && bodyOf(leaf).verb === 'clock-accepted') this.#newest = undefined;
    if (leaf.type === 'certificate' && leaf.timeMs > (this.#newest?.timeMs ?? 0))
      this.#newest = { index, timeMs: leaf.timeMs };
  }

  finish(): void {
    if (this.#newest && this.#newest.timeMs > this.#markMs + maxAheadMs)
      this.#problems.add(
        `the clock mark is ${this.#markMs}, far behind the certificate of leaf ${this.#newest.index} with ${this.#newest.timeMs}`,
      );
  }
}
