/** What somebody may have. Costs are in milliseconds, which are earned as time passes. */
export interface Terms {
  /** Of what is taken. */
  costMs: number;
  /** May be owed. */
  mostMs: number;
  /** Earned in each millisecond. */
  rate: number;
}

/** What somebody has had and not earned again. */
interface Debt {
  owedMs: number;
  /** Of when that is. */
  atMs: number;
  rate: number;
}

/**
 * What each may have by and by: so much at once, and more as he earns it (a leaky bucket). What is owed stands apart from the
 * terms, so that others can count from one moment to the next. Kept is only who has not earned again what he had. In
 * memory: a restart forgives.
 */
export class Allowance {
  readonly #debts = new Map<string, Debt>();

  get size(): number {
    return this.#debts.size;
  }

  /** Takes one; how long to wait, in milliseconds, where it cannot be had yet, 0 where it was taken. */
  take(owner: string, { costMs, mostMs, rate }: Terms, nowMs: number): number {
    this.#sweep(nowMs);
    const owedMs = owed(this.#debts.get(owner), nowMs);
    const waitMs = (owedMs + costMs - mostMs) / rate;
    const isTaken = waitMs <= 0;
    this.#debts.set(owner, { owedMs: isTaken ? owedMs + costMs : owedMs, atMs: nowMs, rate });
    return isTaken ? 0 : waitMs;
  }

  /** One that was taken came to nothing. */
  giveBack(owner: string, { costMs }: Pick<Terms, 'costMs'>): void {
    const debt = this.#debts.get(owner);
    if (debt !== undefined) debt.owedMs -= costMs;
  }

  /** Two at each call: those who have earned it all go sooner than others come. */
  #sweep(nowMs: number): void {
    for (const [owner, debt] of [...this.#debts.entries().take(2)]) {
      this.#debts.delete(owner);
      if (owed(debt, nowMs) > 0) this.#debts.set(owner, debt);
    }
  }
}

function owed(debt: Debt | undefined, nowMs: number): number {
  return debt === undefined ? 0 : Math.max(0, debt.owedMs - (nowMs - debt.atMs) * debt.rate);
}
