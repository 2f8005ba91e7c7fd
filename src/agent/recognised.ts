import type { Attest } from '../attestation/workload/attest.ts';
import { unknownWorkload, type WorkloadPeer } from '../attestation/workload/peer.ts';
import { type Served, type Svid, svidsFor } from './workloads.ts';

/** A workload on a stream: what it may have now, looked at again where entries ask for other selectors than before. */
export class Recognised {
  readonly #peer: WorkloadPeer;
  readonly #attest: Attest;
  #seen: { selectors: ReadonlySet<string>; asked: string } | undefined;

  constructor(peer: WorkloadPeer, attest: Attest) {
    this.#peer = peer;
    this.#attest = attest;
  }

  /** Looks anew at the next call. */
  forget(): void {
    this.#seen = undefined;
  }

  /** Throws denied-workload once the process has ended. */
  async svids(served: Served): Promise<readonly Svid[]> {
    const asked = askedBy(served);
    if (this.#seen?.asked !== asked) this.#seen = { selectors: await this.#attest(this.#peer), asked };
    if (!this.#peer.isAlive()) throw unknownWorkload('the process has ended, or runs another program');
    return svidsFor(served, this.#seen.selectors);
  }

  /** For the agent's log. */
  explain(served: Served): string {
    return explain(this.#peer, this.#seen?.selectors ?? new Set(), served);
  }
}

/** For the agent's log: what was seen of a workload, and what the entries miss that it comes nearest to. */
export function explain(peer: WorkloadPeer, seen: ReadonlySet<string>, served: Served): string {
  const misses = served.svids
    .map(({ entryId, selectors }) => ({ entryId, missing: selectors.filter((one) => !seen.has(one)) }))
    .sort((a, b) => a.missing.length - b.missing.length)
    .slice(0, 3)
    .map(({ entryId, missing }) => `; ${entryId} asks for ${missing.join(' ')}`);
  return `pid ${peer.pid} shows ${[...seen].join(' ') || 'nothing'}${misses.join('')}`;
}

const asked = new WeakMap<Served, string>();

/** Equal for two that ask for the same selectors, as before and after a rotation. */
export function askedBy(served: Served): string {
  const known = asked.get(served);
  if (known !== undefined) return known;
  const text = [...new Set(served.svids.map(({ selectors }) => selectors.join(' ')))].sort().join('\n');
  asked.set(served, text);
  return text;
}
