import type { CrlEvent } from '../wire/watch.ts';

/** Events that may wait while a CRL is fetched: one a second for as long as that may take. */
const waitingMax = 32;

/** The CRLs that the server told of. */
export class ToldCrls {
  readonly #numbers = new Map<string, bigint>();
  readonly #last = new Map<string, Promise<void>>();
  #waiting = 0;

  /** The highest number that was told; -1 where none was. */
  number({ issuerKeyId, scope }: Pick<CrlEvent, 'issuerKeyId' | 'scope'>): bigint {
    return this.#numbers.get(`${issuerKeyId} ${scope}`) ?? -1n;
  }

  /** Nothing waits or is being taken. */
  get isQuiet(): boolean {
    return this.#waiting === 0;
  }

  /**
   * Does `work`, which must not reject, behind what was told of this CRL before: a patch is of the one before it. Not at
   * all where too many wait; `number` says what is missing then.
   */
  take(event: CrlEvent, work: () => Promise<void>): Promise<void> {
    const key = `${event.issuerKeyId} ${event.scope}`;
    const number = BigInt(event.crlNumber);
    if (number > this.number(event)) this.#numbers.set(key, number);
    const before = this.#last.get(key) ?? Promise.resolve();
    if (this.#waiting >= waitingMax) return before;
    this.#waiting += 1;
    const taken = before.then(work).finally(() => {
      this.#waiting -= 1;
    });
    this.#last.set(key, taken);
    return taken;
  }
}
