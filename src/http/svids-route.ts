import type { RequestHandler } from 'express';
import type { Clock } from '../core/clock.ts';
import { asVouchError } from '../core/errors.ts';
import type { CommonParts } from '../enrollment/answer.ts';
import { requireAgent } from '../enrollment/client-certificate.ts';
import { consistencyWith, haltIfRewound, type RewindGuard } from '../enrollment/consistency.ts';
import { answerRoom, type SvidCall, type Svids } from '../enrollment/svids.ts';
import { type SvidOutcome, svidsAnswer } from '../enrollment/svids-answer.ts';
import type { CertificateStanding } from '../store/records.ts';
import { type SvidRequest, svidsRequestSchema } from '../wire/agent.ts';
import { errorFields, type Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type FailureLimits, isPeersFailure } from './admission.ts';
import { parseBody } from './parse.ts';
import { channelOf } from './tls-channel.ts';

/** What the route serves from; `RewindGuard` is what a client may have seen of the log. */
export interface SvidsParts extends RewindGuard, Pick<CommonParts, 'authoritiesOf'> {
  svids: Svids;
  /** Whose certificates peers may show. */
  issuers: () => CommonParts['issuers'];
  bundle: () => CommonParts['bundle'];
  /** The full CRL of each of them, and the root's. */
  crlUrls: () => CommonParts['crlUrls'];
  limits: FailureLimits;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

/**
 * `POST /v1/svids`: each item on its own, renewals first. A call in which something failed by the agent's own fault counts
 * as one failure of the agent's.
 */
export function svidsRoute(
  parts: SvidsParts,
  standing: (request: Parameters<RequestHandler>[0]) => Promise<CertificateStanding>,
): RequestHandler {
  return async (request, response) => {
    const { peerAddress, requestId } = channelOf(request, response);
    // Asked again: the body may have been long in coming.
    const agent = await standing(request);
    requireAgent(agent);
    const body = parseBody(svidsRequestSchema, request.body);
    haltIfRewound(body, parts);
    const call = { agent, channel: { peerAddress, requestId }, room: answerRoom };
    const outcomes = await outcomesOf(parts, body.requests, call);
    const failed = outcomes.some((one) => 'refused' in one && isPeersFailure(one.refused));
    if (failed) await parts.limits.failed({ identity: agent.spiffeId });
    const checkpoint = parts.sequencer.checkpoint();
    const answer = await svidsAnswer({
      ...{ outcomes, checkpoint, tree: parts.tree, authoritiesOf: parts.authoritiesOf },
      issuers: parts.issuers(),
      bundle: parts.bundle(),
      crlUrls: parts.crlUrls(),
      consistency: checkpoint && consistencyWith(body, checkpoint, parts),
      nowMs: parts.clock.now(),
    });
    response.type('application/json').send(answer);
  };
}

async function outcomesOf(
  parts: SvidsParts,
  requests: readonly SvidRequest[],
  call: SvidCall,
): Promise<SvidOutcome[]> {
  const startedMs = performance.now();
  const outcomes = new Map<SvidRequest, Promise<SvidOutcome>>();
  const byUrgency = requests.toSorted((a, b) => Number(isFirst(a)) - Number(isFirst(b)));
  for (const request of byUrgency) outcomes.set(request, outcomeOf(parts, request, call, startedMs));
  return Promise.all(requests.flatMap((request) => outcomes.get(request) ?? []));
}

function isFirst({ predecessor }: SvidRequest): boolean {
  return predecessor === undefined;
}

async function outcomeOf(
  { svids, log, metrics }: SvidsParts,
  request: SvidRequest,
  call: SvidCall,
  startedMs: number,
): Promise<SvidOutcome> {
  const { entryId } = request;
  const { spiffeId } = call.agent;
  try {
    const issued = await svids.issue(request, call);
    metrics.issued.inc({ road: 'svids' });
    metrics.issueSeconds.observe((performance.now() - startedMs) / 1000);
    return { entryId, issued };
  } catch (error) {
    const refused = asVouchError(error);
    metrics.refused.inc({ code: refused.code });
    const fields = { requestId: call.channel.requestId, spiffeId, entryId, ...errorFields(refused) };
    const isOurs = /^(?:integrity-|internal)/.test(refused.code);
    log[isOurs ? 'error' : 'info'](fields, 'refused');
    return { entryId, refused };
  }
}
