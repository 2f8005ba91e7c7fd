import { hash } from 'node:crypto';
import express, {
  type ErrorRequestHandler,
  type Express,
  type Request,
  type RequestHandler,
  type Response,
} from 'express';
import { rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { certificateAnswer } from '../enrollment/answer.ts';
import type { Challenges } from '../enrollment/challenge.ts';
import { standingOf } from '../enrollment/client-certificate.ts';
import { consistencyWith, haltIfRewound, type RewindGuard, type SeenLog } from '../enrollment/consistency.ts';
import type { Enrolled, Enrollment } from '../enrollment/enroll.ts';
import type { JwtSvids } from '../enrollment/jwt-svids.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { Issuers } from '../issuance/issuers.ts';
import type { AgentEntries } from '../registration/agent-entries.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';
import {
  challengeRequestSchema,
  enrollmentPaths,
  enrollRequestSchema,
  renewRequestSchema,
  requestMaxBytes,
} from '../wire/enrollment.ts';
import { agentPaths, svidsRequestMaxBytes, svidsRequestSchema } from '../wire/agent.ts';
import { jwtSvidsPath } from '../wire/jwt.ts';
import type { WatchHub } from '../watch/hub.ts';
import { type Admission, type Attempter, type FailureLimits, isPeersFailure } from './admission.ts';
import { jwtRoute } from './jwt-route.ts';
import type { Turns } from '../jobs/turns.ts';
import { jsonUpTo, parseBody } from './parse.ts';
import { failureOf, noteAsking, notFound, onlyMethods, problems, requestContext } from './request-context.ts';
import { entriesRoute } from './entries-route.ts';
import { type SvidsParts, svidsRoute } from './svids-route.ts';
import { watchRoute } from './watch-route.ts';
import { channelOf, clientCertificateOf } from './tls-channel.ts';

/** What the enrollment listener serves from. */
export interface EnrollmentApiParts extends SvidsParts {
  enrollment: Enrollment;
  challenges: Challenges;
  store: StoreReader & RewindGuard['store'];
  clockGuard: ClockGuard;
  issuance: { issuers: Pick<Issuers, 'isRevoked'> };
  jwtSvids: JwtSvids;
  admission: Admission;
  jwtTurns: Turns;
  hub: WatchHub;
  agentEntries: AgentEntries;
}

/**
 * The enrollment listener's routes. Middleware in this order: context, who answers for a failure (for renewals the
 * client's certificate), body, the route, counting of failures, errors.
 */
export function enrollmentApi(parts: EnrollmentApiParts): Express {
  const app = express();
  app
    .disable('x-powered-by')
    .disable('etag')
    .enable('strict routing')
    .enable('case sensitive routing')
    .set('query parser', false);
  app.use(requestContext('enrollment', parts.log, parts.metrics));
  app.use((_request, response, next) => {
    response.setHeader('Cache-Control', 'no-store');
    next();
  });
  const json = jsonUpTo(requestMaxBytes);
  const manyJson = jsonUpTo(svidsRequestMaxBytes);

  app.get(enrollmentPaths.bundle, (_request, response) => {
    response.type('application/json').send(parts.bundle().jsonBytes);
  });
  app.post(enrollmentPaths.challenge, ...json, (request, response) => {
    parseBody(challengeRequestSchema, request.body);
    const { nonce, expiresAtMs } = parts.challenges.issue(parts.clock.now());
    response.json({ nonce: nonce.toString('base64'), expiresAt: rfc3339(expiresAtMs) });
  });
  app.post(enrollmentPaths.enroll, fromAddress, ...json, enrollRoute(parts));
  app.post(
    enrollmentPaths.renew,
    fromAddress,
    renewalGate(parts),
    hearWitness(parts, json, renewRequestSchema),
    ...json,
    renewRoute(parts),
  );
  const standing = (request: Request): Promise<CertificateStanding> => clientStanding(parts, request);
  app.post(
    agentPaths.svids,
    fromAddress,
    renewalGate(parts),
    hearWitness(parts, manyJson, svidsRequestSchema),
    ...manyJson,
    svidsRoute(parts, standing),
  );
  app.post(jwtSvidsPath, fromAddress, renewalGate(parts), ...json, jwtRoute(parts, standing));
  app.get(enrollmentPaths.watch, fromAddress, watchRoute(parts));
  app.get(agentPaths.entries, fromAddress, entriesRoute(parts));
  app.all(enrollmentPaths.watch, onlyMethods('GET'));
  app.all([enrollmentPaths.bundle, agentPaths.entries], onlyMethods('GET, HEAD'));
  app.all(
    [
      ...[enrollmentPaths.challenge, enrollmentPaths.enroll, enrollmentPaths.renew],
      ...[agentPaths.svids, jwtSvidsPath],
    ],
    onlyMethods('POST'),
  );
  app.use(notFound);
  app.use(countFailures(parts.limits));
  app.use(problems(parts.log, parts.metrics));
  return app;
}

/** Who answers for it where a request fails. */
const attempters = new WeakMap<Response, Attempter>();

/** Until more is known, the address. */
const fromAddress: RequestHandler = (request, response, next) => {
  attempters.set(response, { address: channelOf(request, response).peerAddress });
  next();
};

/**
 * Counts what is the peer's own failure; who has failed too often is told to wait instead of why. Whoever succeeds is
 * served meanwhile, so that a noisy neighbour behind one address keeps nobody out. What is costly to refuse has a limit
 * of its own, by identity, before it is begun.
 */
function countFailures(limits: FailureLimits): ErrorRequestHandler {
  return async (thrown: unknown, _request, response, next) => {
    const attempter = attempters.get(response);
    if (attempter && isPeersFailure(failureOf(thrown))) {
      await limits.refuseExhausted(attempter);
      await limits.failed(attempter);
    }
    next(thrown);
  };
}

/** Who shows a certificate that counts answers for its failures by identity alone. */
function renewalGate(parts: EnrollmentApiParts): RequestHandler {
  return async (request, response, next) => {
    const { spiffeId } = await clientStanding(parts, request);
    noteAsking(response, { spiffeId });
    attempters.set(response, { identity: spiffeId });
    await parts.limits.refuseExhausted({ identity: spiffeId });
    next();
  };
}

/**
 * Who is refused may know more of the log than this server does: a state that was put back has lost the certificates
 * issued since, whose holders have seen what else it lost. Of those that this authority certified the body is read all
 * the same, and what they have seen is looked at; the refusal stands.
 */
function hearWitness(
  parts: EnrollmentApiParts,
  body: readonly RequestHandler[],
  schema: typeof renewRequestSchema | typeof svidsRequestSchema,
): ErrorRequestHandler {
  return (refusal: unknown, request, response, next) => {
    const hear = ([first, ...rest]: readonly RequestHandler[]): void => {
      if (first) first(request, response, (failed?: unknown) => (failed ? next(refusal) : hear(rest)));
      else {
        const { data } = schema.safeParse(request.body);
        if (data) haltIfRewound(data, parts);
        next(refusal);
      }
    };
    if (clientCertificateOf(request).verified) hear(body);
    else next(refusal);
  };
}

/** While the clock is in doubt, what has expired is nobody's to say: that comes first. */
async function clientStanding(parts: EnrollmentApiParts, request: Request): Promise<CertificateStanding> {
  const nowMs = parts.clockGuard.issuanceTimeMs();
  return standingOf(parts.store, clientCertificateOf(request), nowMs, parts.issuance.issuers);
}

function enrollRoute(parts: EnrollmentApiParts): RequestHandler {
  return async (request, response) => {
    const channel = channelOf(request, response);
    const body = parseBody(enrollRequestSchema, request.body);
    haltIfRewound(body, parts);
    const identity = hash('sha256', body.evidence.data, 'hex');
    attempters.set(response, { address: channel.peerAddress, identity });
    await parts.limits.refuseExhausted({ identity });
    const enroll = () => parts.enrollment.enroll(body, channel);
    response.json(answer(parts, await admitted(parts, 'enrollment', enroll), body));
  };
}

function renewRoute(parts: EnrollmentApiParts): RequestHandler {
  return async (request, response) => {
    const channel = channelOf(request, response);
    // Asked again: the body may have been long in coming.
    const predecessor = await clientStanding(parts, request);
    const { der } = clientCertificateOf(request);
    if (!der) throw new VouchError('denied-certificate', 'this needs a client certificate');
    const body = parseBody(renewRequestSchema, request.body);
    haltIfRewound(body, parts);
    const renew = () => parts.enrollment.renew(body, predecessor, der, channel);
    response.json(answer(parts, await admitted(parts, 'renewal', renew), body));
  };
}

/** An attempt where there is room for it, timed. */
async function admitted(
  { admission, metrics }: EnrollmentApiParts,
  road: 'enrollment' | 'renewal',
  issue: () => Promise<Enrolled>,
): Promise<Enrolled> {
  const started = performance.now();
  const enrolled = await admission.within(road, issue);
  metrics.issued.inc({ road });
  metrics.issueSeconds.observe((performance.now() - started) / 1000);
  return enrolled;
}

function answer(parts: EnrollmentApiParts, { issued, entry }: Enrolled, seen: SeenLog) {
  return certificateAnswer({
    issued,
    authoritiesOf: parts.authoritiesOf,
    issuers: parts.issuers(),
    bundle: parts.bundle(),
    crlUrls: parts.crlUrls(),
    consistency: consistencyWith(seen, issued.proof.checkpoint, parts),
    peers: { version: entry.version, allowedClients: [...entry.allowedClients] },
    nowMs: parts.clock.now(),
  });
}
