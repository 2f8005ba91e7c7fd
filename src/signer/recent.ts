/** Remembers at least the last `atLeast` entries and at most twice as many, at constant cost for each. */
export class Recent<Value> {
  readonly #atLeast: number;
  #young = new Map<number, Value>();
  #old = new Map<number, Value>();

  constructor(atLeast: number) {
    this.#atLeast = atLeast;
  }

  get(key: number): Value | undefined {
    return this.#young.get(key) ?? this.#old.get(key);
  }

  set(key: number, value: Value): void {
    this.#young.set(key, value);
    if (this.#young.size < this.#atLeast) return;
    this.#old = this.#young;
    this.#young = new Map();
  }
}
