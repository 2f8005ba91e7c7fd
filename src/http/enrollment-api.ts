import { hash } from 'node:crypto';
import express, { type Express, type Request, type RequestHandler } from 'express';
import type { Bundle } from '../authority/bundle.ts';
import { type Clock, rfc3339 } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { certificateAnswer } from '../enrollment/answer.ts';
import type { Challenges } from '../enrollment/challenge.ts';
import { standingOf } from '../enrollment/client-certificate.ts';
import { consistencyWith, haltIfRewound, type SeenLog } from '../enrollment/consistency.ts';
import type { Enrolled, Enrollment } from '../enrollment/enroll.ts';
import type { ClockGuard } from '../issuance/clock-guard.ts';
import type { LogKey } from '../log/note.ts';
import type { TileTree } from '../log/tiles.ts';
import type { Sequencer } from '../sequencer/sequencer.ts';
import type { CertificateStanding, StoreReader } from '../store/port.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import {
  challengeRequestSchema,
  enrollmentPaths,
  enrollRequestSchema,
  renewRequestSchema,
  requestMaxBytes,
} from '../wire/enrollment.ts';
import type { Admission, Attempter, FailureLimits } from './admission.ts';
import { bodyWithin, parseBody, refuseTooLarge } from './parse.ts';
import { notFound, onlyMethods, problems, requestContext, requestIdOf } from './request-context.ts';
import { channelOf, clientCertificateOf } from './tls-channel.ts';

/** A few kilobytes need no longer; the place in the enrollment listener that they hold is taken before they come. */
const bodyWithinMs = 3_000;

/** What the enrollment listener serves from. */
export interface EnrollmentApiParts {
  enrollment: Enrollment;
  challenges: Challenges;
  store: StoreReader;
  tree: TileTree;
  logKey: LogKey;
  sequencer: Sequencer;
  clockGuard: ClockGuard;
  bundle: () => Bundle;
  /** DER, issuer first, root last. */
  authorities: readonly Buffer[];
  crlUrls: readonly { keyId: string; url: string }[];
  admission: Admission;
  limits: FailureLimits;
  clock: Clock;
  log: Log;
  metrics: Metrics;
}

/**
 * The enrollment listener's routes. Middleware in this order: context, for renewals the client's certificate, admission,
 * limits, body, the route, errors.
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
  // Nobody who enrolls compresses, and what is not inflated is no bomb.
  const json = [
    refuseTooLarge(requestMaxBytes),
    bodyWithin(bodyWithinMs),
    express.json({ limit: requestMaxBytes, strict: true, inflate: false }),
  ];

  app.get(enrollmentPaths.bundle, (_request, response) => {
    response.type('application/json').send(parts.bundle().jsonBytes);
  });
  app.post(enrollmentPaths.challenge, ...json, (request, response) => {
    parseBody(challengeRequestSchema, request.body);
    const { nonce, expiresAtMs } = parts.challenges.issue(parts.clock.now());
    response.json({ nonce: nonce.toString('base64'), expiresAt: rfc3339(expiresAtMs) });
  });
  const { admission } = parts;
  app.post(
    enrollmentPaths.enroll,
    admission.admit('enrollment'),
    limitAddress(parts),
    ...json,
    enrollRoute(parts),
  );
  app.post(enrollmentPaths.renew, renewalGate(parts), admission.admit('renewal'), ...json, renewRoute(parts));
  app.all(enrollmentPaths.bundle, onlyMethods('GET, HEAD'));
  app.all([enrollmentPaths.challenge, enrollmentPaths.enroll, enrollmentPaths.renew], onlyMethods('POST'));
  app.use(notFound);
  app.use(problems(parts.log, parts.metrics));
  return app;
}

function limitAddress({ limits }: EnrollmentApiParts): RequestHandler {
  return async (request, response, next) => {
    await limits.refuseExhausted({ address: channelOf(request, requestIdOf(response)).peerAddress });
    next();
  };
}

/**
 * Before a renewal is given any room: who shows no certificate that counts is limited by address; who does, by its own
 * identity alone, so that a noisy neighbour behind the same address keeps nobody from renewing.
 */
function renewalGate(parts: EnrollmentApiParts): RequestHandler {
  return async (request, response, next) => {
    const { peerAddress: address } = channelOf(request, requestIdOf(response));
    const standing = await clientStanding(parts, request).catch(async (error: unknown) => {
      await parts.limits.refuseExhausted({ address });
      await countFailure(parts, { address }, error);
      throw error;
    });
    await parts.limits.refuseExhausted({ identity: standing.spiffeId });
    next();
  };
}

/** While the clock is in doubt, what has expired is nobody's to say: that comes first. */
async function clientStanding(parts: EnrollmentApiParts, request: Request): Promise<CertificateStanding> {
  const nowMs = parts.clockGuard.issuanceTimeMs();
  return standingOf(parts.store, clientCertificateOf(request), nowMs);
}

function enrollRoute(parts: EnrollmentApiParts): RequestHandler {
  return async (request, response) => {
    const channel = channelOf(request, requestIdOf(response));
    const { peerAddress: address } = channel;
    const body = await counted(parts, { address }, async () => parseBody(enrollRequestSchema, request.body));
    haltIfRewound(body, parts);
    const identity = hash('sha256', body.evidence.data, 'hex');
    await parts.limits.refuseExhausted({ identity });
    const enrolled = await counted(parts, { address, identity }, () =>
      timed(parts, 'enrollment', () => parts.enrollment.enroll(body, channel)),
    );
    response.json(answer(parts, enrolled, body));
  };
}

function renewRoute(parts: EnrollmentApiParts): RequestHandler {
  return async (request, response) => {
    const channel = channelOf(request, requestIdOf(response));
    // Asked again: the body may have been long in coming.
    const predecessor = await clientStanding(parts, request);
    const { der } = clientCertificateOf(request);
    if (!der) throw new VouchError('denied-certificate', 'this needs a client certificate');
    const enrolled = await counted(parts, { identity: predecessor.spiffeId }, async () => {
      const body = parseBody(renewRequestSchema, request.body);
      haltIfRewound(body, parts);
      const renew = () => parts.enrollment.renew(body, predecessor, der, channel);
      return { body, ...(await timed(parts, 'renewal', renew)) };
    });
    response.json(answer(parts, enrolled, enrolled.body));
  };
}

/** Runs an attempt and counts it against address and identity where it is the peer's failure. */
async function counted<T>(parts: EnrollmentApiParts, who: Attempter, attempt: () => Promise<T>): Promise<T> {
  try {
    return await attempt();
  } catch (error) {
    await countFailure(parts, who, error);
    throw error;
  }
}

/** Only what is the peer's own failure counts against it. */
async function countFailure(parts: EnrollmentApiParts, who: Attempter, error: unknown): Promise<void> {
  const code = error instanceof VouchError ? error.code : 'internal';
  if (code.startsWith('denied-') || code.startsWith('request-')) await parts.limits.failed(who);
}

async function timed(
  parts: EnrollmentApiParts,
  road: string,
  issue: () => Promise<Enrolled>,
): Promise<Enrolled> {
  const started = performance.now();
  const enrolled = await issue();
  parts.metrics.issued.inc({ road });
  parts.metrics.issueSeconds.observe((performance.now() - started) / 1000);
  return enrolled;
}

function answer(parts: EnrollmentApiParts, { issued, entry }: Enrolled, seen: SeenLog) {
  return certificateAnswer({
    issued,
    authorities: parts.authorities,
    bundle: parts.bundle(),
    crlUrls: parts.crlUrls,
    consistency: consistencyWith(seen, issued.proof.checkpoint, parts),
    peers: { version: entry.version, allowedClients: [...entry.allowedClients] },
    nowMs: parts.clock.now(),
  });
}
