/** A batch is answered as a whole: within so long, or a slow token would keep all of it past its deadline. */
const batchMs = 1000;
/** However slow: below it a batch costs more in commits than it saves in waiting. */
const leastMutations = 8;
/** How much the newest batch counts. */
const weight = 1 / 4;

/** How many mutations a batch may hold, by how long the signer took for the last ones. */
export class Pace {
  #msEach = 0;

  /** A batch of `mutations` was answered, or given up, after `ms`. */
  took(mutations: number, ms: number): void {
    this.#msEach += (ms / mutations - this.#msEach) * weight;
  }

  /** At most `most`; fewer where the signer is slow. */
  mutations(most: number): number {
    if (this.#msEach === 0) return most;
    return Math.min(most, Math.max(leastMutations, Math.floor(batchMs / this.#msEach)));
  }
}
