/** What changes of rows, as stored and as logged, by id; only where it is not what it was at first. */
export class Changed<T extends object> {
  readonly #atFirst: T;
  readonly #stored = new Map<string, T>();
  readonly #logged = new Map<string, T>();

  constructor(atFirst: T) {
    this.#atFirst = atFirst;
  }

  /** A row as it is stored. */
  stored(id: string, state: T): void {
    if (JSON.stringify(state) !== JSON.stringify(this.#atFirst)) this.#stored.set(id, state);
  }

  /** A leaf that changes it. */
  change(id: string, to: (state: T) => T): void {
    this.#logged.set(id, to(this.#logged.get(id) ?? this.#atFirst));
  }

  /** Each that changed, stored or logged. */
  *both(): Generator<{ id: string; stored: T; logged: T }> {
    for (const id of new Set([...this.#stored.keys(), ...this.#logged.keys()]))
      yield {
        id,
        stored: this.#stored.get(id) ?? this.#atFirst,
        logged: this.#logged.get(id) ?? this.#atFirst,
      };
  }
}
