import { readFile } from 'node:fs/promises';
import { VouchError } from '../core/errors.ts';
import { removeLeftovers, writeAtomically } from './atomic-file.ts';
import { encodeGuard, type GuardMark, type LogIdentity, type Mark, parseGuard, sameLog } from './marks.ts';

/** Where guards are kept: values as `encodeGuard` writes them. */
export interface GuardStore {
  /** Every guard there, also of other logs, and what is malformed. */
  read(): Promise<Buffer[]>;
  /** Keeps `value`, and only then drops those of `obsolete`. */
  replace(value: Buffer, obsolete: readonly Buffer[]): Promise<void>;
}

/** The second mark against rewinding, out of reach of whoever restores the state directory (I11). */
export class Guard {
  readonly #store: GuardStore;
  readonly #log: LogIdentity;
  /** This log's guards, oldest first. */
  #values: { value: Buffer; mark: GuardMark }[];
  /** Guards of other logs in the same place. */
  readonly foreign: readonly Mark[];
  /** How many objects there could not be read. */
  readonly malformed: number;

  private constructor(store: GuardStore, log: LogIdentity, values: readonly Buffer[]) {
    this.#store = store;
    this.#log = log;
    const read = values.map((value) => ({ value, mark: parseGuard(value) }));
    this.malformed = read.filter(({ mark }) => mark === undefined).length;
    const known = read.flatMap(({ value, mark }) => (mark ? [{ value, mark }] : []));
    this.foreign = known.map(({ mark }) => mark).filter((mark) => !sameLog(mark, log));
    this.#values = known
      .filter(({ mark }) => sameLog(mark, log))
      .sort((a, b) => a.mark.sequence - b.mark.sequence);
  }

  /** Reads what is there. Rejects where the place cannot be read. */
  static async open(store: GuardStore, log: LogIdentity): Promise<Guard> {
    return new Guard(store, log, await store.read());
  }

  /** Every guard of this log: each of them was true once, so none may be gone behind. */
  marks(): Mark[] {
    return this.#values.map(({ mark }) => mark);
  }

  /**
   * Writes a new guard where the newest says something else: new one first, then the old ones go, save the one before:
   * the newest may not have reached the disk when the power fails.
   */
  async write(mark: Mark): Promise<void> {
    const newest = this.#values.at(-1);
    const same = newest && encodeGuard({ ...mark, sequence: newest.mark.sequence }).equals(newest.value);
    if (same) return;
    const guard = { ...mark, ...this.#log, sequence: (newest?.mark.sequence ?? 0) + 1 };
    const value = encodeGuard(guard);
    const obsolete = this.#values.slice(0, -1);
    await this.#store.replace(
      value,
      obsolete.map((old) => old.value),
    );
    const kept = parseGuard(value);
    this.#values = [...this.#values.slice(-1), ...(kept ? [{ value, mark: kept }] : [])];
  }
}

/** Guards in one file, one a line, for a place that is backed up and restored apart from the state directory. */
export function fileGuards(file: string): GuardStore {
  const read = async () => {
    const text = await readText(file);
    const lines = text.split('\n').filter((line) => line !== '');
    return lines.map((line) => Buffer.from(line, 'utf8'));
  };
  return {
    read,
    replace: async (value, obsolete) => {
      await removeLeftovers(file);
      const kept = (await read()).filter((line) => !obsolete.some((old) => old.equals(line)));
      await writeAtomically(file, [...kept, value].map((line) => `${line.toString('utf8')}\n`).join(''));
    },
  };
}

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw new VouchError('config-state', `cannot read the rollback mark ${file}`, { cause });
  }
}
