const lock = 0;
const logins = 1;

/**
 * The login of the process, which all its threads share: one of them logs in at a time, so that a PIN that is refused was
 * presented once (I8), and only once for each loss.
 */
export class SharedLogin {
  readonly #cells: Int32Array;

  /** `memory` is what all threads of the process were given. */
  constructor(memory: SharedArrayBuffer) {
    this.#cells = new Int32Array(memory);
  }

  /** What the threads share. */
  static memory(): SharedArrayBuffer {
    return new SharedArrayBuffer(8);
  }

  /** How often the process has logged in; read before a call that may find the login gone. */
  get count(): number {
    return Atomics.load(this.#cells, logins);
  }

  /** Logs in, unless another thread has since `seen` was read. Throws what `login` throws. Blocks the thread. */
  since(seen: number, login: () => void): void {
    while (Atomics.compareExchange(this.#cells, lock, 0, 1) !== 0) Atomics.wait(this.#cells, lock, 1);
    try {
      if (this.count !== seen) return;
      login();
      Atomics.add(this.#cells, logins, 1);
    } finally {
      Atomics.store(this.#cells, lock, 0);
      Atomics.notify(this.#cells, lock, 1);
    }
  }
}
