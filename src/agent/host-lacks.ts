import { named } from './daemon/entry-changes.ts';

/** Of a registration entry. */
interface Asking {
  readonly entryId: string;
  readonly selectors: readonly string[];
}

/** Tells, once for each, what entries ask for that no process of this host can show: mostly a misspelt name. */
export class HostLacks {
  readonly #lackOf: (selector: string) => Promise<string | undefined>;
  readonly #notice: (line: string) => void;
  /** Selectors. */
  readonly #looked = new Set<string>();
  #wanted: readonly Asking[] = [];
  #seen: readonly Asking[] = [];
  #isLooking = false;

  constructor(lackOf: (selector: string) => Promise<string | undefined>, notice: (line: string) => void) {
    this.#lackOf = lackOf;
    this.#notice = notice;
  }

  /** These are the entries: the same array while they are the same. Looks at one thing at a time. Never rejects. */
  async take(entries: readonly Asking[]): Promise<void> {
    this.#wanted = entries;
    if (this.#isLooking) return;
    this.#isLooking = true;
    while (this.#seen !== this.#wanted) {
      this.#seen = this.#wanted;
      await this.#look(this.#seen);
    }
    this.#isLooking = false;
  }

  async #look(entries: readonly Asking[]): Promise<void> {
    const askedBy = new Map(
      entries.flatMap(({ entryId, selectors }) => selectors.map((one) => [one, entryId] as const)),
    );
    for (const selector of this.#looked) if (!askedBy.has(selector)) this.#looked.delete(selector);
    const lacks: string[] = [];
    for (const [selector, entryId] of askedBy) {
      if (this.#looked.has(selector)) continue;
      this.#looked.add(selector);
      // A file that cannot be read now tells nothing.
      const lack = await this.#lackOf(selector).catch(() => undefined);
      if (lack !== undefined) lacks.push(`${selector} (entry ${entryId}; ${lack})`);
    }
    if (lacks.length > 0) this.#notice(`no process of this host fits: ${named(lacks)}`);
  }
}
