import type { Attest } from '../attestation/workload/attest.ts';
import { unknownWorkload, type WorkloadPeer } from '../attestation/workload/peer.ts';
import { type Served, type Svid, svidsFor, type Withheld } from './workloads.ts';

/** What was seen of a process for entries that ask for the same. */
interface Look {
  readonly asked: string;
  readonly selectors: Promise<ReadonlySet<string>>;
}

/** Those under way: streams of one connection that come together share one, and what was seen. */
const underWay = new WeakMap<WorkloadPeer, Look>();

/** A workload on a stream: what it may have now, looked at again where entries ask for other selectors than before. */
export class Recognised {
  readonly #peer: WorkloadPeer;
  readonly #attest: Attest;
  #look: Look | undefined;
  #seen: ReadonlySet<string> = new Set();

  constructor(peer: WorkloadPeer, attest: Attest) {
    this.#peer = peer;
    this.#attest = attest;
  }

  /** Looks anew at the next call. */
  forget(): void {
    this.#look = undefined;
  }

  /** Throws denied-workload once the process has ended. */
  async svids(served: Served): Promise<readonly Svid[]> {
    const asked = askedBy(served);
    if (this.#look?.asked !== asked) this.#look = lookAt(this.#peer, this.#attest, asked);
    this.#seen = await this.#look.selectors;
    if (!this.#peer.isAlive()) throw unknownWorkload('the process has ended, or runs another program');
    return svidsFor(served, this.#seen);
  }

  /** Selectors as they were seen last, of its user and what it runs. */
  get shows(): string {
    return [...this.#seen].join(' ');
  }

  /** For the agent's log. */
  explain(served: Served, withheld: readonly Withheld[]): string {
    return explain(this.#peer, this.#seen, served, withheld);
  }
}

/** Looks at a process for entries that ask for this; shares a look for the same that is under way. */
export function lookAt(peer: WorkloadPeer, attest: Attest, asked: string): Look {
  const known = underWay.get(peer);
  if (known?.asked === asked) return known;
  const look = { asked, selectors: attest(peer).then((seen) => asSeenBefore(peer, seen)) };
  underWay.set(peer, look);
  const over = () => {
    if (underWay.get(peer) === look) underWay.delete(peer);
  };
  look.selectors.then(over, over);
  return look;
}

const lastSeen = new WeakMap<WorkloadPeer, ReadonlySet<string>>();

/** What was seen, as the set that the other streams of its connection hold already where it is the same. */
function asSeenBefore(peer: WorkloadPeer, seen: ReadonlySet<string>): ReadonlySet<string> {
  const before = lastSeen.get(peer);
  if (before?.size === seen.size && [...seen].every((one) => before.has(one))) return before;
  lastSeen.set(peer, seen);
  return seen;
}

/** Entries that a refusal names at most. */
const namedMax = 3;

/**
 * For the agent's log: what was seen of a workload; which entries it is named by that have no certificate now, and why; and
 * what the entries miss that it comes nearest to.
 */
export function explain(
  peer: WorkloadPeer,
  seen: ReadonlySet<string>,
  served: Served,
  withheld: readonly Withheld[],
): string {
  const missing = ({ selectors }: { selectors: readonly string[] }): string[] =>
    selectors.filter((one) => !seen.has(one));
  const mine = withheld
    .filter((one) => one.selectors.length > 0 && missing(one).length === 0)
    .map(({ entryId, spiffeId, why }) => `; ${entryId} makes it ${spiffeId}, without a certificate: ${why}`);
  const near = [...served.svids, ...withheld]
    .map((one) => ({ entryId: one.entryId, missing: missing(one) }))
    .filter((one) => one.missing.length > 0)
    .sort((a, b) => a.missing.length - b.missing.length)
    .slice(0, namedMax)
    .map((one) => `; ${one.entryId} asks for ${one.missing.join(' ')}`);
  const named = [...mine, ...near].slice(0, namedMax);
  const none =
    served.svids.length === 0 && withheld.length === 0 ? '; no entry names this agent as parent' : '';
  // A workload chooses what its program is called.
  const shown = [...seen].join(' ').replaceAll(/[\p{C}\p{Zl}\p{Zp}]/gu, '?');
  return `pid ${peer.pid} shows ${shown || 'nothing'}${named.join('')}${none}`;
}

const asked = new WeakMap<Served, string>();
let lastAsked = '';

/** Equal for two that ask for the same selectors, as before and after a rotation. Streams keep it: one text for all that are equal. */
export function askedBy(served: Served): string {
  const known = asked.get(served);
  if (known !== undefined) return known;
  const text = [...new Set(served.svids.map(({ selectors }) => selectors.join(' ')))].sort().join('\n');
  if (text !== lastAsked) lastAsked = text;
  asked.set(served, lastAsked);
  return lastAsked;
}
