import type { Verdict } from './history.ts';

/** What was found wrong, each thing once however often it is seen. */
export class Verdicts {
  readonly #found: Record<Verdict, Set<string>> = {
    lost: new Set(),
    duplicates: new Set(),
    orphans: new Set(),
    regressions: new Set(),
    faults: new Set(),
  };
  readonly #notice: (line: string) => void;

  /** `notice` is called with each new one. */
  constructor(notice: (line: string) => void) {
    this.#notice = notice;
  }

  add(verdict: Verdict, what: string): void {
    if (this.#found[verdict].has(what)) return;
    this.#found[verdict].add(what);
    this.#notice(`${verdict}: ${what}`);
  }

  count(verdict: Verdict): number {
    return this.#found[verdict].size;
  }

  /** True where nothing at all is wrong. */
  get isClean(): boolean {
    return Object.values(this.#found).every((found) => found.size === 0);
  }
}
