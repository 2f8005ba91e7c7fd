import type { SignedSoFar, Store, StoredSignature } from '../store/port.ts';

/** A store that fails is a full disk more often than not. */
const retryAfterMs = 1_000;

/**
 * Signatures and the newest checkpoint on their way into the store: with the next batch, after `withinMs` at the
 * latest, and at the end; a second after a try that failed. Losing them loses nothing but work: a TBS without a stored signature counts as issued.
 */
export class SignatureKeeper {
  readonly #store: Pick<Store, 'storeSigned'>;
  readonly #withinMs: number;
  #held: { signatures: StoredSignature[]; checkpointNote: string | undefined } = {
    signatures: [],
    checkpointNote: undefined,
  };
  /** The last that was kept, whether it is stored or not. */
  #newestNote: string | undefined;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;
  /** Writes under way that carry what was held. */
  readonly #writes = new Set<Promise<void>>();

  constructor(store: Pick<Store, 'storeSigned'>, withinMs: number) {
    this.#store = store;
    this.#withinMs = withinMs;
  }

  /** `checkpointNote`: the newest there is. */
  keep(signatures: readonly StoredSignature[], checkpointNote: string | undefined): void {
    this.#held.signatures.push(...signatures);
    if (checkpointNote !== this.#newestNote) this.#held.checkpointNote = checkpointNote;
    this.#newestNote = checkpointNote;
    this.#storeWithin(this.#withinMs);
  }

  /** Runs a write that carries what is held; where it fails, that is held again. */
  async carriedBy<T>(write: (signed: SignedSoFar) => Promise<T>): Promise<T> {
    const signed = this.#held;
    this.#held = { signatures: [], checkpointNote: undefined };
    const writing = write(signed);
    const settled = writing.then(
      () => undefined,
      () => this.#putBack(signed),
    );
    this.#writes.add(settled);
    void settled.finally(() => this.#writes.delete(settled));
    return writing;
  }

  /** Stores what was kept until now; resolves when it is durable. Rejects where it cannot be, and holds it then. */
  async store(): Promise<void> {
    await Promise.all(this.#writes);
    if (this.#held.signatures.length === 0 && this.#held.checkpointNote === undefined) return;
    await this.carriedBy((signed) => this.#store.storeSigned(signed));
  }

  /** Stores what is held; what cannot be stored now is kept for the next try. */
  async flush(): Promise<void> {
    await this.store().catch(() => undefined);
  }

  /** No timer runs any more; what is held is stored. */
  async close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.flush();
  }

  #storeWithin(ms: number): void {
    if (this.#closed) return;
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      void this.flush();
    }, ms);
  }

  #putBack(signed: SignedSoFar): void {
    this.#held = {
      signatures: [...signed.signatures, ...this.#held.signatures],
      // A newer one may be stored by now: not the one of the write that failed.
      checkpointNote: this.#newestNote,
    };
    this.#storeWithin(retryAfterMs);
  }
}
