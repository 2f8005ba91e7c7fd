import type { Mutation } from '../store/port.ts';

/** Always taken (I12), with what has to come before a revocation; they need the store, not the token. */
const endings: ReadonlySet<Mutation['kind']> = new Set([
  'revocation',
  'key-blocked',
  'token-revoked',
  'entry-suspended',
]);

/** True for what ends something: it is refused neither by a halt nor by a long queue. */
export function isEnding({ kind }: Mutation): boolean {
  return endings.has(kind);
}

/** What waits: its mutation's leaf and, for a CRL, its TBS go to the signer. */
interface Waits {
  submission: { mutation: Mutation; tbs?: Buffer };
}

/** What one batch may hold. */
export interface BatchLimits {
  mutations: number;
  /** Of leaves and TBS; a single larger mutation is a batch of its own. */
  bytes: number;
}

/** What waits for a commit, in two lanes: what ends something comes before all else and waits for no signer. */
export class Queue<Item extends Waits> {
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

  /** The next ones within the limits; where there is no room at the signer, only what ends something. */
  take(limits: BatchLimits, hasRoom: boolean): Item[] {
    const batch: Item[] = [];
    let bytes = 0;
    for (const lane of hasRoom ? [this.#endings, this.#others] : [this.#endings]) {
      let count = 0;
      for (const item of lane) {
        bytes += bytesOf(item);
        if (batch.length === limits.mutations || (batch.length > 0 && bytes > limits.bytes)) break;
        batch.push(item);
        count += 1;
      }
      lane.splice(0, count);
    }
    return batch;
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

function bytesOf({ submission: { mutation, tbs } }: Waits): number {
  return mutation.leaf.bytes.length + (tbs?.length ?? 0);
}
