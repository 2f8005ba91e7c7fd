import type { MintedJwt, Served, Svid, Trust, Withheld, Workloads } from '../workloads.ts';

/** What is held now, for those who serve it. */
export class ServedWorkloads implements Workloads {
  readonly #listeners = new Set<(served: Served) => void>();
  readonly mintJwt: Workloads['mintJwt'];
  readonly withheld: Workloads['withheld'];
  #now: Served | undefined;
  #told: Served | undefined;
  #isDue = false;

  constructor(
    mintJwt: (entryId: string, audience: readonly string[]) => Promise<MintedJwt>,
    withheld: () => readonly Withheld[],
  ) {
    this.mintJwt = mintJwt;
    this.withheld = withheld;
  }

  get now(): Served | undefined {
    return this.#now;
  }

  /** Makes this what is served, where it is not the same already. Listeners are called in a turn of their own, with the newest. */
  publish(svids: readonly Svid[], trust: Trust): boolean {
    const before = this.#now;
    const isSame =
      trust === before?.trust &&
      svids.length === before.svids.length &&
      svids.every((svid, index) => svid === before.svids[index]);
    if (isSame) return false;
    this.#now = Object.freeze({ svids: Object.freeze([...svids]), trust });
    if (this.#isDue) return true;
    this.#isDue = true;
    setImmediate(() => this.#tell());
    return true;
  }

  subscribe(listener: (served: Served) => void): () => void {
    const own = (served: Served): void => listener(served);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  #tell(): void {
    this.#isDue = false;
    const served = this.#now;
    if (served === undefined || served === this.#told) return;
    this.#told = served;
    for (const listener of [...this.#listeners]) if (this.#listeners.has(listener)) listener(served);
  }
}
