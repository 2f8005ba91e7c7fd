import { unknownWorkload } from '../peer.ts';

/** Of one user. */
const waitingMax = 64;

/** Work that is done one at a time, by turns of the users it is for: who brings much waits for himself. */
export class Turns {
  readonly #waiting = new Map<number, (() => Promise<void>)[]>();
  #isRunning = false;

  /** Rejects as the work does, and with denied-workload where too much of this user's waits. */
  take<T>(uid: number, work: () => Promise<T>): Promise<T> {
    const queue = this.#waiting.get(uid) ?? [];
    if (queue.length >= waitingMax)
      return Promise.reject(unknownWorkload(`too much of uid ${uid} waits to be looked at`));
    this.#waiting.set(uid, queue);
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    queue.push(() => work().then(resolve, reject));
    if (!this.#isRunning) void this.#run();
    return promise;
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    while (this.#waiting.size > 0)
      for (const [uid, queue] of this.#waiting) {
        await queue.shift()?.();
        if (queue.length === 0) this.#waiting.delete(uid);
      }
    this.#isRunning = false;
  }
}
