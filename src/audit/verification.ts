/** The answer of `vouch log verify`. */
export interface LogVerification {
  treeSize: number;
  /** Hex. */
  rootHash: string;
  certificates: number;
  revocations: number;
  /** One sentence each, which names the row and says what differs. */
  problems: string[];
}

/** More problems than this help nobody. */
const problemsMost = 100;

/** What was found wrong, in the order in which it was found. */
export class Problems {
  readonly #said: string[] = [];
  #unsaid = 0;

  add(problem: string): void {
    if (this.#said.length < problemsMost) this.#said.push(problem);
    else this.#unsaid += 1;
  }

  /** Runs a look at something; what cannot even be read is a problem of that thing, not the end of the verification. */
  attempt<T>(what: string, look: () => T): T | undefined {
    try {
      return look();
    } catch (error) {
      this.add(`${what}: ${error instanceof Error ? error.message : 'unreadable'}`);
      return undefined;
    }
  }

  /** Adds what in a row is not as the log makes it. */
  compare(what: string, row: object, expected: Readonly<Record<string, unknown>>): void {
    for (const [name, value] of Object.entries(expected)) {
      const stored: unknown = (row as Record<string, unknown>)[name];
      if (!isSame(stored, value))
        this.add(`${what}: ${name} is ${shown(stored)}, the log says ${shown(value)}`);
    }
  }

  list(): string[] {
    return this.#unsaid === 0 ? [...this.#said] : [...this.#said, `and ${this.#unsaid} more`];
  }
}

function isSame(a: unknown, b: unknown): boolean {
  return Buffer.isBuffer(a) && Buffer.isBuffer(b) ? a.equals(b) : a === b;
}

const shownMost = 200;

function shown(value: unknown): string {
  if (Buffer.isBuffer(value)) return `${value.length} bytes ${value.toString('hex', 0, 8)}…`;
  return String(JSON.stringify(value)).slice(0, shownMost);
}
