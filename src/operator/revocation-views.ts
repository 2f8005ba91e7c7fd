import { rfc3339 } from '../core/clock.ts';
import type { BlastRadius } from '../revocation/blast-radius.ts';
import type { MassProgress } from '../revocation/mass.ts';
import type { RevocationResult } from '../revocation/tally.ts';
import { certificateView } from './views.ts';

/** What a revocation would take: the first of each kind, and how many there are. */
export function blastRadiusView(radius: BlastRadius, nowMs: number) {
  const { certificates, certificateCount, validUntilMs, ...names } = radius;
  const { identities, agents, joinTokens, suspends, revokesTokens } = names;
  return {
    certificates: certificates.map((one) => certificateView(one, nowMs)),
    certificateCount,
    validUntil: validUntilMs === undefined ? null : rfc3339(validUntilMs),
    identities: identities.names,
    identityCount: identities.count,
    agents: agents.names,
    agentCount: agents.count,
    joinTokens: joinTokens.names,
    joinTokenCount: joinTokens.count,
    suspendsEntries: suspends.names,
    suspendsEntryCount: suspends.count,
    revokesTokens: revokesTokens.names,
    revokesTokenCount: revokesTokens.count,
  };
}

/** A mass revocation: its result, or how far it is. */
export function massView({ massRevocation, reason, result, revokedCount, problem }: MassProgress): object {
  if (result) return { massRevocation, ...(reason === 'removeFromCRL' ? releaseView(result) : result) };
  return { massRevocation, underWay: true, revokedCount, problem: problem ?? null };
}

/** The answer to `vouch release`. */
export function releaseView({ revoked, revokedCount, crlNumber, crlUrl, published }: RevocationResult) {
  return {
    released: revoked.map(({ serial, revokedAt, logIndex }) => ({ serial, releasedAt: revokedAt, logIndex })),
    releasedCount: revokedCount,
    ...{ crlNumber, crlUrl, published },
  };
}
