import { setImmediate as turn } from 'node:timers/promises';
import { mayFollow, type Reason } from '../core/reasons.ts';
import type { CertificateStanding } from '../store/records.ts';
import { listedMost } from './tally.ts';
import type { RevocationTarget, Targets } from './targets.ts';

/** Most of a kind that are told apart. */
const distinctMost = 100_000;

/** Different names: the first thousand, and how many there are, to 100,000. */
export interface Names {
  names: string[];
  count: number;
}

/** What a revocation would take. */
export interface BlastRadius {
  /** The last to expire first. */
  certificates: CertificateStanding[];
  certificateCount: number;
  /** notAfter of the last one, Unix milliseconds; undefined without any. */
  validUntilMs: number | undefined;
  identities: Names;
  agents: Names;
  /** That the certificates came from. */
  joinTokens: Names;
  /** Entries that would be suspended and join tokens that would be revoked. */
  suspends: Names;
  revokesTokens: Names;
}

/** Walks through all that a revocation for this reason would take, without doing it; others get their turn between. */
export async function blastRadius(
  targets: Targets,
  target: RevocationTarget,
  reason: Reason,
): Promise<BlastRadius> {
  const [identities, agents, joinTokens] = [new Distinct(), new Distinct(), new Distinct()];
  const [suspends, revokesTokens] = [new Distinct(), new Distinct()];
  const certificates: CertificateStanding[] = [];
  const counted = new Set<number>();
  let validUntilMs: number | undefined;
  for (const page of targets.pages(target)) {
    for (const one of page) {
      if (!mayFollow(one.revoked?.reason, reason) || counted.has(one.leafIndex)) continue;
      counted.add(one.leafIndex);
      if (certificates.length < listedMost) certificates.push(one);
      validUntilMs = Math.max(validUntilMs ?? 0, one.notAfterMs);
      identities.add(one.spiffeId);
      agents.add(one.agent);
      joinTokens.add(one.tokenId);
    }
    await turn();
  }
  for (const sources of reason === 'removeFromCRL' ? [] : targets.sources(target)) {
    for (const source of sources)
      if ('tokenId' in source) revokesTokens.add(source.tokenId);
      else suspends.add(source.entryId);
    await turn();
  }
  return {
    ...{ certificates, certificateCount: counted.size, validUntilMs },
    ...{ identities: identities.names(), agents: agents.names(), joinTokens: joinTokens.names() },
    ...{ suspends: suspends.names(), revokesTokens: revokesTokens.names() },
  };
}

class Distinct {
  readonly #found = new Set<string>();

  add(name: string | undefined): void {
    if (name !== undefined && this.#found.size < distinctMost) this.#found.add(name);
  }

  names(): Names {
    return { names: [...this.#found].slice(0, listedMost), count: this.#found.size };
  }
}
