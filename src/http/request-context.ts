import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { ErrorRequestHandler, Request, RequestHandler, Response } from 'express';
import { asVouchError, VouchError } from '../core/errors.ts';
import { type Audience, problemOf } from '../core/problem.ts';
import { errorFields, type Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { unmapped } from './address-group.ts';

const requestIdGrammar = /^[A-Za-z0-9._-]{1,64}$/;
/** W3C Trace Context §3.2: version, trace id, parent id, flags; a later version may append to them. */
const traceFields = '(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}';
const traceparentGrammar = new RegExp(`^(?:00-${traceFields}|(?!00|ff)[0-9a-f]{2}-${traceFields}(?:-.*)?)$`);

/** What is known of who asks; it stands beside the request's answer in the log. */
export interface Asking {
  peerAddress?: string;
  /** `uid:N`, on the admin socket. */
  operator?: string;
  /** Not the token: its id. */
  tokenId?: string;
  spiffeId?: string;
}

const asking = new WeakMap<Response, Asking>();

/** Adds what was learned of who asks. */
export function noteAsking(response: Response, learned: Asking): void {
  asking.set(response, { ...asking.get(response), ...learned });
}

/** The id that joins a request's log lines, its answer and its decision record. */
export function requestIdOf(response: Response): string {
  const id: unknown = response.locals.requestId;
  return typeof id === 'string' ? id : 'none';
}

/** The request id and the trace id (W3C Trace Context) that a peer sent, each only where it is well-formed. */
export function givenContext({ headers }: IncomingMessage): { requestId?: string; traceId?: string } {
  const requestId = String(headers['x-request-id'] ?? '');
  const traceparent = String(headers.traceparent ?? '');
  return {
    ...(requestIdGrammar.test(requestId) && { requestId }),
    ...(traceparentGrammar.test(traceparent) && { traceId: traceparent.slice(3, 35) }),
  };
}

/** Gives each request an id (the peer's where it is well-formed), times it, and logs it when it is answered. */
export function requestContext(listener: string, log: Log, metrics: Metrics): RequestHandler {
  return (request, response, next) => {
    const started = performance.now();
    const { requestId = randomUUID(), ...trace } = givenContext(request);
    response.locals.requestId = requestId;
    response.setHeader('x-request-id', requestId);
    const { remoteAddress } = request.socket;
    if (remoteAddress !== undefined) noteAsking(response, { peerAddress: unmapped(remoteAddress) });
    response.on('finish', () => {
      const seconds = (performance.now() - started) / 1000;
      const route = routeOf(request);
      metrics.requests.observe({ listener, route, status: String(response.statusCode) }, seconds);
      const fields = {
        listener,
        requestId,
        ...trace,
        ...asking.get(response),
        method: request.method,
        route,
        status: response.statusCode,
        ms: Math.round(seconds * 1e4) / 10,
      };
      if (response.statusCode >= 500) log.error(fields, 'answered');
      else log.info(fields, 'answered');
    });
    next();
  };
}

/** For a path whose methods stand above it: any other one. */
export function onlyMethods(allow: string): RequestHandler {
  return (_request, response) => {
    response.setHeader('Allow', allow);
    throw new VouchError('request-method', `this path takes ${allow} only`);
  };
}

/** Any path that no route took. */
export const notFound: RequestHandler = () => {
  throw new VouchError('request-not-found', 'there is nothing at this path');
};

/** The last handler: every failure becomes problem+json; only the log learns the cause. */
export function problems(log: Log, metrics: Metrics, audience: Audience = 'peer'): ErrorRequestHandler {
  return (thrown: unknown, request, response, _next) => {
    const error = failureOf(thrown);
    const requestId = requestIdOf(response);
    metrics.refused.inc({ code: error.code });
    const problem = problemOf(error, audience, requestId);
    const fields = { requestId, route: routeOf(request), ...asking.get(response), ...errorFields(error) };
    if (problem.status >= 500 && error.retryAfterSeconds === undefined) log.error(fields, 'failed');
    else log.info(fields, 'refused');
    if (response.headersSent) {
      request.socket.destroy();
      return;
    }
    if (error.retryAfterSeconds !== undefined)
      response.setHeader('Retry-After', String(Math.ceil(error.retryAfterSeconds)));
    response.status(problem.status).type('application/problem+json').send(JSON.stringify(problem));
  };
}

/** Any failure of a request as a VouchError. What the body parser throws carries a status; its text stays inside. */
export function failureOf(thrown: unknown): VouchError {
  if (!(thrown instanceof Error) || !('status' in thrown)) return asVouchError(thrown);
  const cause = thrown.message;
  if (thrown.status === 413)
    return new VouchError('request-too-large', 'the body is larger than this path takes', { cause });
  if (typeof thrown.status === 'number' && thrown.status < 500)
    return new VouchError('request-malformed', 'the body is not the JSON this path takes', { cause });
  return asVouchError(thrown);
}

function routeOf(request: Request): string {
  const route: unknown = request.route;
  if (typeof route === 'object' && route !== null && 'path' in route && typeof route.path === 'string')
    return route.path;
  return 'none';
}
