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

/** Whose selectors decide what is worth looking at; the same array while they are the same. */
type Entries = readonly { readonly selectors: readonly string[] }[];

/**
 * Looks in each way. What is dear is looked at only where an entry asks for it and all else that it asks for was seen,
 * so that a stranger makes the agent read no file. What was seen counts only if the process is, after all of it, still
 * the one that connected.
 */
export function createAttest(attestors: readonly WorkloadAttestor[], entries: () => Entries): Attest {
  const dear = new Map(attestors.flatMap((attestor) => [...attestor.dear]));
  const wantedOf = indexer([...dear.keys()]);
  return async (peer) => {
    const seen = new Set((await Promise.all(attestors.map((attestor) => attestor.look(peer)))).flat());
    const wanted = wantedOf(entries(), seen);
    for (const [start, look] of dear) {
      if (!wanted.has(start)) continue;
      const selector = await look(peer);
      if (selector !== undefined) seen.add(selector);
    }
    if (!peer.isAlive()) throw unknownWorkload('the process has ended, or runs another program');
    return seen;
  };
}

/** What an entry asks for that asks for something dear. */
interface Asked {
  /** Whole selectors. */
  cheap: readonly string[];
  /** By their beginnings. */
  dear: readonly string[];
}

/** By the first of what is cheap, '' where nothing is. */
type Index = ReadonlyMap<string, readonly Asked[]>;

/** What is dear, by its beginning, of entries of which all else was seen. They are put in order once: there can be thousands. */
function indexer(
  starts: readonly string[],
): (entries: Entries, seen: ReadonlySet<string>) => ReadonlySet<string> {
  const known = new WeakMap<Entries, Index>();
  return (entries, seen) => {
    const index = known.get(entries) ?? indexOf(entries, starts);
    known.set(entries, index);
    const near = ['', ...seen]
      .flatMap((first) => index.get(first) ?? [])
      .filter(({ cheap }) => cheap.every((selector) => seen.has(selector)));
    return new Set(near.flatMap((asked) => asked.dear));
  };
}

function indexOf(entries: Entries, starts: readonly string[]): Index {
  const index = new Map<string, Asked[]>();
  for (const { selectors } of entries) {
    const dear = starts.filter((start) => selectors.some((selector) => selector.startsWith(start)));
    if (dear.length === 0) continue;
    const cheap = selectors.filter((selector) => !starts.some((start) => selector.startsWith(start)));
    const [first = ''] = cheap;
    const others = index.get(first) ?? [];
    others.push({ cheap, dear });
    index.set(first, others);
  }
  return index;
}
