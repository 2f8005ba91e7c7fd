import { readFile } from 'node:fs/promises';
import type { Clock } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import { emptyRoot } from '../log/merkle.ts';
import { sequenceOfOrigin } from '../log/origin.ts';
import { removeLeftovers, writeAtomically } from './atomic-file.ts';
import { CrlNumbers } from './crl-numbers.ts';
import { Guard, type GuardStore } from './guard.ts';
import { MarkWriter } from './mark-writer.ts';
import { encodeFloor, type LogIdentity, type Mark, parseFloor, sameLog } from './marks.ts';

/** How often the marks are written while they change. */
export interface MarkIntervals {
  /** Every second: what a power cut may take from the floor. */
  floorMs: number;
  /** Every minute: a token's memory wears out. */
  guardMs: number;
  /** Past this without a written floor nothing is signed any more. */
  staleMs: number;
  /** The same of the guard. */
  guardStaleMs: number;
}

const markIntervals: MarkIntervals = {
  floorMs: 1000,
  guardMs: 60_000,
  staleMs: 10_000,
  guardStaleMs: 180_000,
};

/** The marks of one log: the floor in a file of the signer's own, the guard elsewhere (I11). */
export class Floor {
  readonly #file: string;
  readonly #guard: Guard;
  readonly #intervals: MarkIntervals;
  readonly #onFailure: FloorParts['onFailure'];
  #current: Mark;
  /** As read at start; undefined where the file is missing. */
  #stored: Mark | undefined;
  #takenUp = false;
  /** As read at start, both marks were of an earlier log of this key. */
  readonly #onlyEarlier: boolean;
  readonly #floorWriter: MarkWriter;
  readonly #guardWriter: MarkWriter;
  #timers: NodeJS.Timeout[] = [];

  private constructor(parts: FloorParts, guard: Guard, stored: Mark | undefined) {
    this.#file = parts.file;
    this.#guard = guard;
    this.#floorWriter = new MarkWriter(() => this.#writeFloor(), parts.clock);
    this.#guardWriter = new MarkWriter(() => this.#guard.write(this.#current), parts.clock);
    this.#intervals = parts.intervals ?? markIntervals;
    this.#onFailure = parts.onFailure;
    this.#stored = stored && sameLog(stored, parts.log) ? stored : undefined;
    const isEarlier = (mark: Mark): boolean =>
      mark.logKeySha256 === parts.log.logKeySha256 &&
      sequenceOfOrigin(mark.origin) < sequenceOfOrigin(parts.log.origin);
    this.#onlyEarlier =
      stored !== undefined &&
      isEarlier(stored) &&
      guard.marks().length === 0 &&
      guard.foreign.some(isEarlier);
    const crlNumbers = new CrlNumbers();
    // A log that replaces another after a restore keeps its CRL numbers: they belong to the issuer, not to the log.
    for (const mark of [stored, ...guard.marks(), ...guard.foreign])
      if (mark) crlNumbers.merge(mark.crlNumbers);
    this.#current = { ...parts.log, treeSize: 0, rootHash: emptyRoot, crlNumbers };
  }

  /** Reads both marks. Rejects with `integrity-state` where the floor is there and unreadable. */
  static async open(parts: FloorParts): Promise<Floor> {
    await removeLeftovers(parts.file);
    const stored = await readFloor(parts.file);
    return new Floor(parts, await Guard.open(parts.guards, parts.log), stored);
  }

  /** CRL numbers in use; raise them here and call `changed`. */
  get crlNumbers(): CrlNumbers {
    return this.#current.crlNumbers;
  }

  /**
   * The marks that a tree taken up must reach and agree with. Throws `integrity-state` where one of the two is
   * missing: it was there since `vouch init`.
   */
  marks(): Mark[] {
    const guards = this.#guard.marks();
    const written = this.#stored ? [this.#stored, ...guards] : guards;
    // What this process has taken up it knows by itself, whatever became of writing it down.
    if (this.#takenUp) return [...written, this.#current];
    if (!this.#stored)
      throw new VouchError(
        'integrity-state',
        `${this.#file} is missing or another log's, so the signer cannot know whether this state was put back; ` +
          'restore the file, or use `vouch restore`',
      );
    if (guards.length === 0)
      throw new VouchError(
        'integrity-state',
        'the rollback mark holds no guard for this log, so the signer cannot know whether the state was put back; ' +
          'was the token exchanged? Use `vouch restore`',
      );
    return written;
  }

  /** The largest tree of this log that was signed, by what marks there are; undefined where there is none. */
  highest(): Mark | undefined {
    const marks = [...this.#guard.marks(), ...(this.#stored ? [this.#stored] : [])];
    if (this.#takenUp) marks.push(this.#current);
    return marks.toSorted((a, b) => b.treeSize - a.treeSize)[0];
  }

  /** True where any mark of this log exists, written or not: then it is not new. */
  exists(): boolean {
    return this.#takenUp || this.#stored !== undefined || this.#guard.marks().length > 0;
  }

  /** True where a crash came between the word that opened this log and its first marks. */
  isToBegin(): boolean {
    return this.#onlyEarlier && !this.exists();
  }

  /**
   * Takes note of a tree before it is signed; written within a second. Throws `integrity-rewind` for one that is not the
   * last or larger: whatever led there, it is not signed.
   */
  advance(treeSize: number, rootHash: Buffer): void {
    const { treeSize: last, rootHash: lastRoot } = this.#current;
    const isBehind = treeSize < last || (treeSize === last && !rootHash.equals(lastRoot));
    if (__VOUCH_WITHOUT__ !== 'I11' && isBehind)
      throw new VouchError(
        'integrity-rewind',
        `this signer has signed another tree of ${last} leaves; bring its log, or use \`vouch restore\``,
      );
    this.#current = { ...this.#current, treeSize, rootHash };
    this.changed();
  }

  /** Something in it changed. */
  changed(): void {
    this.#floorWriter.changed();
    this.#guardWriter.changed();
  }

  /** Writes both marks and then keeps them written. Rejects where they cannot be written: then nothing may be signed. */
  async start(): Promise<void> {
    this.stop();
    this.#takenUp = true;
    // Before the first wait, so that a stop meanwhile ends them.
    const { floorMs, guardMs, staleMs, guardStaleMs } = this.#intervals;
    const floor = setInterval(() => this.#tick(this.#floorWriter, staleMs), floorMs);
    const guard = setInterval(() => this.#tick(this.#guardWriter, guardStaleMs), guardMs);
    this.#timers = [floor.unref(), guard.unref()];
    await this.flush();
  }

  /** Writes both marks now, the floor first: a guard above the floor would read as a floor put back. */
  async flush(): Promise<void> {
    // Before a tree was taken up there is nothing to say, and an empty mark would destroy a true one.
    if (!this.#takenUp) return;
    await this.#floorWriter.write();
    await this.#guardWriter.write();
  }

  /** Writes the floor now, for what must not be lost with the last second. */
  write(): Promise<void> {
    return this.#floorWriter.write();
  }

  /** Ends the writing in the background. */
  stop(): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
  }

  #tick(writer: MarkWriter, staleMs: number): void {
    const isStale = () => writer.waitingMs > staleMs;
    // A write that hangs never rejects: it is looked at before the next one.
    if (isStale())
      this.#onFailure(
        new VouchError('unavailable-signer', `a rollback mark has not been written for ${staleMs / 1000} s`),
        true,
      );
    writer.write().catch((error: unknown) => this.#onFailure(asVouchError(error), isStale()));
  }

  async #writeFloor(): Promise<void> {
    const text = encodeFloor(this.#current);
    try {
      await writeAtomically(this.#file, text);
    } catch (cause) {
      throw new VouchError('unavailable-signer', `the signer cannot write ${this.#file}; is the disk full?`, {
        cause,
        retryAfterSeconds: 5,
      });
    }
    this.#stored = parseFloor(text);
  }
}

/** What a floor is made of. */
export interface FloorParts {
  file: string;
  log: LogIdentity;
  guards: GuardStore;
  clock: Clock;
  intervals?: MarkIntervals;
  /** Called when a write in the background failed; `stale`: changes have waited too long, nothing may be signed. */
  onFailure: (error: Error, stale: boolean) => void;
}

async function readFloor(file: string): Promise<Mark | undefined> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw new VouchError('config-state', `cannot read ${file}`, { cause });
  }
  const mark = parseFloor(text);
  if (!mark)
    throw new VouchError(
      'integrity-state',
      `${file} is malformed; restore the file, or use \`vouch restore\``,
    );
  return mark;
}
