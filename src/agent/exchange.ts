import type { IncomingMessage, RequestOptions } from 'node:http';
import type { TLSSocket } from 'node:tls';
import type { Clock } from '../core/clock.ts';
import { type ErrorCode, VouchError } from '../core/errors.ts';
import { retryAfterSeconds } from '../core/retry-after.ts';
import { answerMaxBytes, problemSchema } from '../wire/enrollment.ts';
import { connectionFailure } from './tls-failure.ts';

const answerTimeoutMs = 15_000;
/** Longest `Retry-After` that is heeded. */
const retryAfterMaxSeconds = 3600;

// An ESM import of node:http runs its lazy getters, undici among them: 20 ms of an agent's start.
const http = process.getBuiltinModule('node:http');

/** One request over a connection that was verified before. */
export interface ServerRequest {
  method: 'GET' | 'POST';
  path: string;
  /** JSON; absent for GET. */
  body?: unknown;
  headers?: Readonly<Record<string, string>>;
  /** What it asks for, if it was done, is refused the second time: it is not sent once more. */
  isOnce?: boolean;
  /** Default `answerMaxBytes`. */
  answerMaxBytes?: number;
}

/** Where a request's connection comes from. */
export type Via = Pick<RequestOptions, 'agent' | 'createConnection'>;

/**
 * Sends one request over `socket`, which it closes, and returns the JSON of a 200; undefined for a 304. Throws what the server's problem
 * says: `unavailable-…` for 5xx, 408 and 429, its own code for the rest; `unavailable-server` where the answer breaks
 * off, `denied-server` where it is no JSON or longer than it may be.
 */
export async function exchange(
  socket: TLSSocket,
  server: string,
  request: ServerRequest,
  parts: { clock: Clock; signal: AbortSignal },
): Promise<unknown> {
  try {
    return await exchangeVia({ createConnection: () => socket }, server, request, parts);
  } finally {
    socket.destroy();
  }
}

/** What an exchange is made with. */
export interface ExchangeParts {
  clock: Clock;
  signal: AbortSignal;
  /** For tests. */
  answerTimeoutMs?: number;
}

/**
 * The same over a connection that `via` makes or has. One that the server closed while it lay idle is no failure: the
 * request is sent once more, over another, unless it is `isOnce`.
 */
export async function exchangeVia(
  via: Via,
  server: string,
  request: ServerRequest,
  parts: ExchangeParts,
): Promise<unknown> {
  const deadline = AbortSignal.timeout(parts.answerTimeoutMs ?? answerTimeoutMs);
  const signal = AbortSignal.any([parts.signal, deadline]);
  try {
    const response = await open(via, server, request, { ...parts, signal });
    const body = await bodyOf(response, server, request.answerMaxBytes);
    return response.statusCode === 304 ? undefined : parseAnswer(body, server);
  } catch (error) {
    throw connectionFailure(error, server, { clock: parts.clock, verified: true });
  }
}

/**
 * Sends one request and returns the answer where that is a 200, its body to be read, or a 304 to a
 * conditional request. Throws as `exchange`.
 */
export async function open(
  via: Via,
  server: string,
  request: ServerRequest,
  { clock, signal }: { clock: Clock; signal: AbortSignal },
): Promise<IncomingMessage> {
  const response = await send(via, new URL(server).host, request, signal);
  const isUnchanged = response.statusCode === 304 && request.headers?.['if-none-match'] !== undefined;
  if (response.statusCode === 200 || isUnchanged) return response;
  throw problemOf(response, await bodyOf(response, server), server, clock);
}

function send(via: Via, host: string, asked: ServerRequest, signal: AbortSignal): Promise<IncomingMessage> {
  const { method, path, body, headers } = asked;
  const { promise, resolve, reject } = Promise.withResolvers<IncomingMessage>();
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  const options: RequestOptions = {
    method,
    path,
    signal,
    ...via,
    headers: {
      host,
      accept: 'application/json',
      'user-agent': `vouch/${__VOUCH_VERSION__}`,
      ...(payload === undefined
        ? {}
        : { 'content-type': 'application/json', 'content-length': payload.length }),
      ...headers,
    },
  };
  const request = http.request(options, resolve);
  request.on('error', (error) => {
    // A fresh one is not used before: this ends.
    if (request.reusedSocket && isReset(error) && !asked.isOnce) resolve(send(via, host, asked, signal));
    else reject(error);
  });
  request.end(payload);
  return promise;
}

function isReset(error: NodeJS.ErrnoException): boolean {
  return error.code === 'ECONNRESET' || error.code === 'EPIPE';
}

async function bodyOf(response: IncomingMessage, server: string, maxBytes = answerMaxBytes): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response) {
    size += (chunk as Buffer).length;
    if (size > maxBytes)
      throw new VouchError('denied-server', `the answer of ${server} is longer than ${maxBytes} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}

function parseAnswer(body: Buffer, server: string): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch (cause) {
    throw new VouchError('denied-server', `the answer of ${server} is no JSON`, { cause });
  }
}

function problemOf(response: IncomingMessage, body: Buffer, server: string, clock: Clock): VouchError {
  const status = response.statusCode ?? 0;
  const problem = problemSchema.safeParse(parseProblem(body));
  const said = problem.success ? problem.data : {};
  const detail = printable(said.detail ?? said.title ?? `${server} answers ${status}`);
  if (status >= 500 || status === 429 || status === 408) {
    const asked = retryAfterSeconds(response.headers['retry-after'], clock.now());
    const code = status === 429 ? 'unavailable-rate-limited' : 'unavailable-server';
    const heeded = asked === undefined ? {} : { retryAfterSeconds: Math.min(asked, retryAfterMaxSeconds) };
    return new VouchError(code, detail, heeded);
  }
  return new VouchError(codeOf(said.code), detail);
}

function parseProblem(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}

/** The server's code where it is one of a refusal; anything else counts as a refusal, too. */
function codeOf(code: string | undefined): ErrorCode {
  return code !== undefined && /^(request|denied|policy)-[a-z-]{1,40}$/.test(code)
    ? (code as ErrorCode)
    : 'denied-evidence';
}

/** What others wrote, fit for a terminal. */
function printable(text: string): string {
  return text
    .replaceAll(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g, ' ')
    .slice(0, 1000);
}
