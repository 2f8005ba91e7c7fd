import type { Request, RequestHandler } from 'express';
import { rfc3339 } from '../core/clock.ts';
import { isIntegrityFailure } from '../core/errors.ts';
import type { JwtSvids } from '../enrollment/jwt-svids.ts';
import type { Turns } from '../jobs/turns.ts';
import type { CertificateStanding } from '../store/records.ts';
import type { Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type JwtSvidAnswer, jwtSvidRequestSchema } from '../wire/jwt.ts';
import { parseBody } from './parse.ts';
import { channelOf } from './tls-channel.ts';

/** What the route works with. */
export interface JwtRouteParts {
  jwtSvids: JwtSvids;
  /** Agents take turns at the signer. */
  jwtTurns: Turns;
  log: Log;
  metrics: Metrics;
}

/** `POST /v1/jwt-svids`. `standing`: the client's certificate as the store knows it at that moment; throws `denied-…`. */
export function jwtRoute(
  { jwtSvids, jwtTurns, log, metrics }: JwtRouteParts,
  standing: (request: Request) => Promise<CertificateStanding>,
): RequestHandler {
  return async (request, response) => {
    const { peerAddress, requestId } = channelOf(request, response);
    const body = parseBody(jwtSvidRequestSchema, request.body);
    const agent = await standing(request);
    try {
      const { token, keyId, entryId, claims } = await jwtTurns.within(agent.spiffeId, () =>
        jwtSvids.sign(body, () => standing(request)),
      );
      const { spiffeId, audience, expiresAtSeconds, tokenId } = claims;
      const expiresAt = rfc3339(expiresAtSeconds * 1000);
      metrics.jwtSvids.inc();
      const by = { agent: agent.spiffeId, agentSerial: agent.serial, requestId, peerAddress };
      log.info({ ...by, entryId, spiffeId, audience, tokenId, expiresAt, keyId }, 'JWT-SVID signed');
      response.json({ token, expiresAt, spiffeId } satisfies JwtSvidAnswer);
    } catch (error) {
      if (isIntegrityFailure(error)) metrics.alarms.inc({ kind: 'jwt' });
      throw error;
    }
  };
}
