import { unknownWorkload, type WorkloadPeer } from './peer.ts';

/** What was seen of a workload: selector texts, `type:value`. Throws denied-workload when it is gone. */
export type Attest = (peer: WorkloadPeer) => Promise<ReadonlySet<string>>;

/** One way to look at a workload; what throws anything denies. */
export interface WorkloadAttestor {
  /** What is cheap to see. */
  look(peer: WorkloadPeer): Promise<readonly string[]>;
  /** What costs more, by the beginning of the selector (`unix:sha256:`): the whole selector, or undefined. */
  readonly dear: ReadonlyMap<string, (peer: WorkloadPeer) => Promise<string | undefined>>;
}

/** Whose selectors decide what is worth looking at. */
type Entries = Iterable<{ readonly selectors: readonly string[] }>;

/**
 * Looks in each way. What is dear is looked at only where an entry asks for it and all else that it asks for was seen,
 * so that a stranger makes the agent read no file. What was seen counts only if the process is, after all of it, still
 * the one that connected.
 */
export function createAttest(attestors: readonly WorkloadAttestor[], entries: () => Entries): Attest {
  const dear = new Map(attestors.flatMap((attestor) => [...attestor.dear]));
  const isDear = (selector: string) => [...dear.keys()].some((start) => selector.startsWith(start));
  return async (peer) => {
    const seen = new Set((await Promise.all(attestors.map((attestor) => attestor.look(peer)))).flat());
    const near = [...entries()].filter(({ selectors }) =>
      selectors.every((selector) => isDear(selector) || seen.has(selector)),
    );
    for (const [start, look] of dear) {
      if (!near.some(({ selectors }) => selectors.some((selector) => selector.startsWith(start)))) continue;
      const selector = await look(peer);
      if (selector !== undefined) seen.add(selector);
    }
    if (!peer.isAlive()) throw unknownWorkload('the process has ended, or runs another program');
    return seen;
  };
}
