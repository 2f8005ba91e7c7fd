import { pipeline, Readable } from 'node:stream';
import type { Request, RequestHandler, Response } from 'express';
import { requireAgent, standingOf } from '../enrollment/client-certificate.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuers } from '../issuance/issuers.ts';
import type { AgentEntries } from '../registration/agent-entries.ts';
import type { StoreReader } from '../store/port.ts';
import { noteAsking } from './request-context.ts';
import { clientCertificateOf } from './tls-channel.ts';

/** What the route works with. */
export interface EntriesRouteParts {
  agentEntries: AgentEntries;
  store: Pick<StoreReader, 'certificate'>;
  clockGuard: Pick<ClockGuard, 'steadyTimeMs'>;
  issuance: { issuers: Pick<Issuers, 'isRevoked'> };
}

/**
 * `GET /v1/entries`: what names as parent the identity that the certificate is for. Told also while the clock is in
 * doubt, since a deletion must not wait.
 */
export function entriesRoute(parts: EntriesRouteParts): RequestHandler {
  const { agentEntries, store, clockGuard, issuance } = parts;
  return async (request, response) => {
    const peer = clientCertificateOf(request);
    const agent = standingOf(store, peer, clockGuard.steadyTimeMs(), issuance.issuers);
    noteAsking(response, { spiffeId: agent.spiffeId });
    requireAgent(agent);
    // First, so that what changes meanwhile has a later one.
    const sequence = agentEntries.sequenceOf(agent.spiffeId);
    response.setHeader('ETag', `"${sequence}"`);
    if (isKnown(request, sequence)) response.status(304).end();
    else send(response, await agentEntries.answerOf(agent.spiffeId, sequence));
  };
}

/** RFC 9110 §13.1.2, where `*` stands for any representation and there always is one. */
function isKnown({ headers }: Request, sequence: number): boolean {
  const tags = (headers['if-none-match'] ?? '').split(',').map((tag) => tag.trim().replace(/^W\//, ''));
  return tags.includes(`"${sequence}"`) || tags.includes('*');
}

/** No faster than it is read; who goes away is no failure. */
function send(response: Response, pieces: readonly Buffer[]): void {
  response.type('application/json');
  response.setHeader('Content-Length', String(pieces.reduce((sum, { length }) => sum + length, 0)));
  pipeline(Readable.from(pieces), response, () => undefined);
}
