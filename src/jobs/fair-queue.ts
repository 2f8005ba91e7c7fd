/** What waits, by who asked: each takes a turn with one, so that who asks for hundreds keeps nobody waiting for them. */
export class FairQueue<T> {
  /** Whose turn is next comes first. */
  readonly #waiting = new Map<string, T[]>();
  #size = 0;

  get size(): number {
    return this.#size;
  }

  add(owner: string, item: T): void {
    const own = this.#waiting.get(owner);
    if (own) own.push(item);
    else this.#waiting.set(owner, [item]);
    this.#size += 1;
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
}
