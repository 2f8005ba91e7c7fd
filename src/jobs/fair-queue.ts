/**
 * What waits, by who asked: each takes a turn with one, so that who asks for hundreds keeps nobody waiting for them. Where
 * it is full, who has most waiting makes room for who has less.
 */
export class FairQueue<T> {
  /** Whose turn is next comes first. */
  readonly #waiting = new Map<string, T[]>();
  readonly #most: number;
  #size = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#size;
  }

  /** What has to go for it: the last of who has most waiting, which may be the item itself; undefined where there was room. */
  add(owner: string, item: T): T | undefined {
    const own = this.#waiting.get(owner) ?? [];
    let last: T | undefined;
    if (this.#size >= this.#most) {
      const longest = this.#longest();
      if (longest.length <= own.length + 1) return item;
      last = longest.pop();
    } else this.#size += 1;
    own.push(item);
    this.#waiting.set(owner, own);
    return last;
  }

  /** As many as there are, `most` at most. */
  take(most: number): T[] {
    const taken: T[] = [];
    // A map gives what is set again on the way once more, as its last.
    for (const [owner, own] of this.#waiting) {
      if (taken.length >= most) break;
      taken.push(...own.splice(0, 1));
      this.#waiting.delete(owner);
      if (own.length > 0) this.#waiting.set(owner, own);
    }
    this.#size -= taken.length;
    return taken;
  }

  #longest(): T[] {
    let longest: T[] = [];
    for (const own of this.#waiting.values()) if (own.length > longest.length) longest = own;
    return longest;
  }
}
