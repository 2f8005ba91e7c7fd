import type { Mutation } from '../store/port.ts';

/** Always taken (I12), with what has to come before a revocation; they need the store, not the token. */
const endings: ReadonlySet<Mutation['kind']> = new Set(['revocation', 'token-revoked', 'entry-suspended']);

/** True for what ends something: it is refused neither by a halt nor by a long queue. */
export function isEnding({ kind }: Mutation): boolean {
  return endings.has(kind);
}

/** What waits for a commit, in two lanes: what ends something comes before all else and waits for no signer. */
export class Queue<Item extends { submission: { mutation: Mutation } }> {
  readonly #others: Item[] = [];
  readonly #endings: Item[] = [];
  #endingCame: () => void = () => undefined;

  get size(): number {
    return this.#others.length + this.#endings.length;
  }

  push(item: Item): void {
    if (!isEnding(item.submission.mutation)) {
      this.#others.push(item);
      return;
    }
    this.#endings.push(item);
    this.#endingCame();
  }

  /** The next ones, at most `most`; where there is no room at the signer, only what ends something. */
  take(most: number, hasRoom: boolean): Item[] {
    const batch = this.#endings.splice(0, most);
    return hasRoom ? [...batch, ...this.#others.splice(0, most - batch.length)] : batch;
  }

  /** Everything but what ends something. */
  takeOthers(): Item[] {
    return this.#others.splice(0);
  }

  takeAll(): Item[] {
    return [...this.#endings.splice(0), ...this.#others.splice(0)];
  }

  /** Resolves when something waits that ends something. */
  async ending(): Promise<void> {
    if (this.#endings.length > 0) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#endingCame = resolve;
    await promise;
  }
}
