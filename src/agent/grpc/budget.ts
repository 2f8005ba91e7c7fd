/** What all callers of one user hold together, so that none of them can fill the agent. */
export class Budget {
  connections = 0;
  /** Bytes of requests that have not come as a whole. */
  pendingBytes = 0;
}

/** Budgets by uid; forgets who has no connection. */
export class Budgets {
  readonly #of = new Map<number, Budget>();

  /** Counts a connection; undefined past `max`. */
  connect(uid: number, max: number): Budget | undefined {
    const budget = this.#of.get(uid) ?? new Budget();
    if (budget.connections >= max) return undefined;
    budget.connections++;
    this.#of.set(uid, budget);
    return budget;
  }

  disconnect(uid: number): void {
    const budget = this.#of.get(uid);
    if (budget !== undefined && --budget.connections === 0) this.#of.delete(uid);
  }
}

/** At most `max` in each `windowMs`. */
export class Rate {
  readonly #max: number;
  readonly #windowMs: number;
  #count = 0;
  #since = 0;

  constructor(max: number, windowMs: number) {
    this.#max = max;
    this.#windowMs = windowMs;
  }

  /** Counts one more; false past the bound. `nowMs` is monotonic. */
  take(nowMs: number): boolean {
    if (nowMs - this.#since >= this.#windowMs) {
      this.#since = nowMs;
      this.#count = 0;
    }
    return ++this.#count <= this.#max;
  }
}
