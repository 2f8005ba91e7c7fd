import { createHash } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { VouchError } from '../core/errors.ts';
import type { OcspReply, SignedOcsp } from '../revocation/ocsp.ts';
import { ocspRequestMaxBytes } from '../x509/ocsp.ts';

/** An OCSP request over HTTP. Rejects with a `request-…` where it is none; everything else is an answer (RFC 6960 A.1). */
export type OcspHandler = (request: IncomingMessage, response: ServerResponse) => Promise<void>;

const path = '/ocsp';
/** Base64 of the largest request, each of its characters escaped at the worst. */
const urlMaxChars = 16_000;

/** Whether a URL is the responder's. */
export function isOcspUrl(url: string): boolean {
  return url === path || url.startsWith(`${path}/`) || url.startsWith(`${path}?`);
}

/** Serves GET and HEAD with the request in the path, and POST. `nowMs`: Unix milliseconds. */
export function ocspHandler(
  answer: (request: Buffer) => Promise<OcspReply>,
  nowMs: () => number,
): OcspHandler {
  return async (request, response) => {
    const isPost = request.method === 'POST';
    const reply = await answer(
      isPost ? await postedRequest(request, response) : requestInUrl(request, response),
    );
    response.setHeader('Content-Type', 'application/ocsp-response');
    if ('refusal' in reply) response.setHeader('Cache-Control', 'no-store');
    else if (cacheHeaders(reply.signed, { request, response, nowMs: nowMs() })) {
      response.writeHead(304).end();
      return;
    }
    const { der } = 'signed' in reply ? reply.signed : reply;
    response.setHeader('Content-Length', der.length);
    response.writeHead(200).end(request.method === 'HEAD' ? undefined : der);
  };
}

/**
 * RFC 5019 §6.2, save that an answer is fresh for a second only, and not until its nextUpdate: a cache would hold up a
 * revocation until then. While we are away it may be served as long. True where the client has it already.
 */
function cacheHeaders(
  signed: SignedOcsp,
  { request, response, nowMs }: { request: IncomingMessage; response: ServerResponse; nowMs: number },
): boolean {
  if (request.method === 'POST' || signed.nonce) {
    response.setHeader('Cache-Control', 'no-store');
    return false;
  }
  const etag = `"${createHash('sha256').update(signed.der).digest('base64url')}"`;
  const left = Math.max(0, signed.nextUpdateSeconds - Math.ceil(nowMs / 1000));
  response.setHeader('ETag', etag);
  response.setHeader('Last-Modified', new Date(signed.thisUpdateSeconds * 1000).toUTCString());
  response.setHeader(
    'Cache-Control',
    `public, no-transform, max-age=${Math.min(1, left)}, stale-if-error=${left}`,
  );
  return request.headers['if-none-match'] === etag;
}

/**
 * The path behind `/ocsp/`, unescaped once and never more, as base64 in its one form; a `/` may stand as it is. What is
 * not that is no request, and the reader says so.
 */
function requestInUrl(request: IncomingMessage, response: ServerResponse): Buffer {
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    response.setHeader('Allow', 'GET, HEAD, POST');
    throw new VouchError('request-method', 'only GET, HEAD and POST are served here');
  }
  const url = request.url ?? '';
  if (!url.startsWith(`${path}/`)) return Buffer.alloc(0);
  if (url.length > urlMaxChars)
    throw new VouchError('request-too-large', 'the URL is longer than any request');
  try {
    const text = decodeURIComponent(url.slice(path.length + 1));
    const der = Buffer.from(text, 'base64');
    return der.toString('base64') === text ? der : Buffer.alloc(0);
  } catch {
    return Buffer.alloc(0);
  }
}

/** The body, at most as large as a request can be. Throws `request-too-large`, `request-malformed`. */
async function postedRequest(request: IncomingMessage, response: ServerResponse): Promise<Buffer> {
  const refuse = (error: VouchError): never => {
    // What is not read would be taken for the next request.
    response.setHeader('Connection', 'close');
    throw error;
  };
  const type = (request.headers['content-type'] ?? '').split(';', 1)[0]?.trim().toLowerCase();
  if (request.url !== path)
    return refuse(new VouchError('request-not-found', `a request is posted to ${path}, nothing behind it`));
  if (type !== 'application/ocsp-request')
    return refuse(new VouchError('request-malformed', 'send application/ocsp-request'));
  const tooLarge = new VouchError(
    'request-too-large',
    `the body is larger than ${ocspRequestMaxBytes} bytes`,
  );
  if (Number(request.headers['content-length'] ?? 0) > ocspRequestMaxBytes) return refuse(tooLarge);
  const body = await bodyUpTo(request, ocspRequestMaxBytes);
  return body ?? refuse(tooLarge);
}

/** Undefined where it is larger. Rejects where the client goes away. */
function bodyUpTo(request: IncomingMessage, maxBytes: number): Promise<Buffer | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer | undefined>();
  const chunks: Buffer[] = [];
  let size = 0;
  request.on('data', (chunk: Buffer) => {
    size += chunk.length;
    if (size <= maxBytes) chunks.push(chunk);
    else {
      request.pause();
      resolve(undefined);
    }
  });
  request.once('end', () => resolve(Buffer.concat(chunks)));
  request.once('error', reject);
  request.once('close', () => reject(new VouchError('request-malformed', 'the request ended early')));
  return promise;
}
