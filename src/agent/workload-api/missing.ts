import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import type { Served } from '../workloads.ts';

const entriesShown = 3;

/** For the agent's log: why a workload got no identity; the entries that it missed by the fewest selectors. */
export function missing(peer: WorkloadPeer, seen: ReadonlySet<string>, served: Served): string {
  const nearest = served.svids
    .map((svid) => ({ svid, lacks: svid.selectors.filter((selector) => !seen.has(selector)) }))
    .sort((a, b) => a.lacks.length - b.lacks.length)
    .slice(0, entriesShown)
    .map(({ svid, lacks }) => `entry ${svid.entryId} (${svid.spiffeId}) wants ${lacks.join(' ')}`);
  return [
    `no identity for pid ${peer.pid}, uid ${peer.uid}, seen as ${[...seen].join(' ')}`,
    ...nearest,
  ].join('; ');
}
