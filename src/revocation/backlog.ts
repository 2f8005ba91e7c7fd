/** The scopes that have to be published, and since when each has; taken together, given back where that failed. */
export class Backlog {
  readonly #waiting = new Map<string, number>();
  readonly #taken = new Map<string, number>();

  /** A scope has to be published from `sinceMs` (monotonic) on, also where an earlier state of it is on its way. */
  add(scope: string, sinceMs: number): void {
    if (!this.#waiting.has(scope)) this.#waiting.set(scope, sinceMs);
  }

  /** Those that wait to be taken. */
  waiting(): string[] {
    return [...this.#waiting.keys()];
  }

  has(scope: string): boolean {
    return this.#waiting.has(scope) || this.#taken.has(scope);
  }

  isTaken(scope: string): boolean {
    return this.#taken.has(scope);
  }

  /** Takes all that wait; `giveBack` ends it. */
  take(): string[] {
    for (const [scope, sinceMs] of this.#waiting) this.#taken.set(scope, sinceMs);
    this.#waiting.clear();
    return [...this.#taken.keys()];
  }

  /** What was taken of this scope is published. */
  done(scope: string): void {
    this.#taken.delete(scope);
  }

  /** What was taken and is not done waits again, for as long as it did before. */
  giveBack(): void {
    for (const [scope, sinceMs] of this.#taken) this.#waiting.set(scope, sinceMs);
    this.#taken.clear();
  }

  /** Those that are not published since before this moment. */
  olderThan(beforeMs: number): string[] {
    const all = [...this.#taken, ...this.#waiting];
    return [...new Set(all.flatMap(([scope, sinceMs]) => (sinceMs < beforeMs ? [scope] : [])))];
  }
}
