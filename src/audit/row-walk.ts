/** Rows of one table in their order, read a page at a time. */
export class RowWalk<T extends object> {
  readonly #read: (last: T | undefined) => T[];
  #page: T[] = [];
  #at = 0;
  #last: T | undefined;

  /** `read` gives the rows behind `last`, none where there are no more. */
  constructor(read: (last: T | undefined) => T[]) {
    this.#read = read;
  }

  /** The next row, which stays the next. */
  peek(): T | undefined {
    if (this.#at === this.#page.length) {
      this.#page = this.#read(this.#last);
      this.#at = 0;
      this.#last = this.#page.at(-1) ?? this.#last;
    }
    return this.#page[this.#at];
  }

  next(): T | undefined {
    const row = this.peek();
    if (row !== undefined) this.#at += 1;
    return row;
  }

  /** The next row if it is the one wanted; those before it go to `skipped`, as long as `isBefore` holds. */
  take(
    isWanted: (row: T) => boolean,
    isBefore: (row: T) => boolean,
    skipped: (row: T) => void,
  ): T | undefined {
    for (let row = this.peek(); row !== undefined; row = this.peek()) {
      if (isWanted(row)) return this.next();
      if (!isBefore(row)) return undefined;
      skipped(row);
      this.#at += 1;
    }
    return undefined;
  }

  *rest(): Generator<T> {
    for (let row = this.next(); row !== undefined; row = this.next()) yield row;
  }
}

/** Rows that each belong to one leaf, walked beside the leaves; `orphan` is told of each that belongs to none. */
export class LeafRows<T extends { leafIndex: number }> {
  readonly #walk: RowWalk<T>;
  readonly #orphan: (row: T) => void;

  constructor(read: (afterLeafIndex: number, limit: number) => T[], limit: number, orphan: (row: T) => void) {
    this.#walk = new RowWalk((last) => read(last?.leafIndex ?? Number.MIN_SAFE_INTEGER, limit));
    this.#orphan = orphan;
  }

  /** The row of a leaf, undefined where there is none. Leaves must be asked for in their order. */
  at(leafIndex: number): T | undefined {
    return this.#walk.take(
      (row) => row.leafIndex === leafIndex,
      (row) => row.leafIndex < leafIndex,
      this.#orphan,
    );
  }

  /** After the last leaf: what is left belongs to none. */
  finish(): void {
    for (const row of this.#walk.rest()) this.#orphan(row);
  }
}

/** Rows that each belong to one name, walked in the order in which their leaves made them. */
export class NamedRows<T extends object> {
  readonly #walk: RowWalk<T>;
  readonly #parts: NamedParts<T>;

  constructor(parts: NamedParts<T>) {
    this.#parts = parts;
    this.#walk = new RowWalk((last) =>
      parts.read(last === undefined ? Number.MIN_SAFE_INTEGER : parts.keysOf(last)[1]),
    );
  }

  /** The row of a name, undefined where there is none or it stands out of order. */
  named(name: string): T | undefined {
    const { find, keysOf, orphan } = this.#parts;
    const isNext = (row: T): boolean => keysOf(row)[0] === name;
    const next = this.#walk.peek();
    if (next && isNext(next)) return this.#walk.next();
    // Either its row is gone, or rows without a leaf stand before it.
    const number = find(name);
    if (number === undefined) return undefined;
    return this.#walk.take(isNext, (row) => keysOf(row)[1] < number, orphan);
  }

  /** After the last leaf: what is left belongs to none. */
  finish(): void {
    for (const row of this.#walk.rest()) this.#parts.orphan(row);
  }
}

interface NamedParts<T> {
  /** Rows with a higher number, in their order. */
  read: (afterNumber: number) => T[];
  /** The number of a name's row. */
  find: (name: string) => number | undefined;
  keysOf: (row: T) => [name: string, number: number];
  /** Told of each row that belongs to no leaf. */
  orphan: (row: T) => void;
}
