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

/** Remembers the last hashes of 32 bytes that came in order, in memory that does not grow. */
export class RecentHashes {
  readonly #bytes: Buffer;
  readonly #count: number;
  #first: number | undefined;
  #end = 0;

  constructor(count: number) {
    this.#count = count;
    this.#bytes = Buffer.alloc(count * 32);
  }

  /** `index` follows the last one. */
  set(index: number, hash: Buffer): void {
    this.#first ??= index;
    this.#end = index + 1;
    hash.copy(this.#bytes, (index % this.#count) * 32);
  }

  /** Whether this is the hash that came with `index`, and it is remembered. */
  has(index: number, hash: Buffer): boolean {
    if (index < Math.max(this.#first ?? this.#end, this.#end - this.#count) || index >= this.#end)
      return false;
    const at = (index % this.#count) * 32;
    return this.#bytes.subarray(at, at + 32).equals(hash);
  }
}
