import { type Serial, serialBytes } from '../core/serial.ts';
import { EntryCursor } from './crl-entries.ts';

/** An entry of so many is remembered by its place: a look reads the others between two of them. */
const every = 256;

/** Where the entries of a CRL with rising serials stand: little memory, and made in steps that may be far apart. */
export class CrlIndex {
  readonly #cursor: EntryCursor;
  readonly #der: Buffer;
  readonly #end: number;
  readonly #starts: number[] = [];
  #count = 0;

  /** Of the entries that stand in `der` from `start` to `end`, one behind the other, and were read before. */
  constructor(der: Buffer, start: number, end: number) {
    this.#der = der;
    this.#end = end;
    this.#cursor = new EntryCursor(der, start, end);
  }

  /** Takes the next few hundred entries in; false where there are no more. Nothing is found before that. */
  step(): boolean {
    for (let left = every; left > 0; left -= 1) {
      if (!this.#cursor.step()) return false;
      if (this.#count % every === 0) this.#starts.push(this.#cursor.start);
      this.#count += 1;
    }
    return true;
  }

  /** Whether a serial is among them. */
  has(serial: Serial): boolean {
    const wanted = serialBytes(serial);
    let [low, high] = [0, this.#starts.length];
    while (high - low > 1) {
      const middle = (low + high) >>> 1;
      if (this.#at(middle).compareTo(wanted) > 0) high = middle;
      else low = middle;
    }
    if (low >= this.#starts.length) return false;
    const entry = new EntryCursor(this.#der, this.#starts[low], this.#starts[low + 1] ?? this.#end);
    while (entry.step()) if (entry.compareTo(wanted) === 0) return true;
    return false;
  }

  #at(position: number): EntryCursor {
    const entry = new EntryCursor(this.#der, this.#starts[position], this.#end);
    entry.step();
    return entry;
  }
}
