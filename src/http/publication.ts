import { createHash } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import type { Clock } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import { errorFields, type Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type Problem, problemOf } from '../core/problem.ts';
import { givenContext } from './request-context.ts';

/** Bytes as they are served, with what HTTP needs to say of them. */
export interface Document {
  bytes: Buffer;
  contentType: string;
  lastModifiedMs: number;
  /** Unix seconds until which a cache may serve it while we are away; undefined: no such limit. */
  staleUntilSeconds: number | undefined;
  /** Never changes: may be kept for ever. */
  immutable: boolean;
}

interface Served extends Document {
  etag: string;
}

/** Largest conditional header that is looked at. */
const conditionMaxChars = 1024;

/**
 * The publication listener: GET and HEAD of bytes that lie in memory, by exact path. It asks neither database nor
 * signer, so that CRLs and bundle stay served while those are away.
 */
export class Publication {
  readonly #documents = new Map<string, Served>();
  readonly #tiles: (path: string) => Buffer | undefined;
  readonly #clock: Clock;

  /** `tiles` resolves log tiles, which are many and lie on disk. */
  constructor(tiles: (path: string) => Buffer | undefined, clock: Clock) {
    this.#tiles = tiles;
    this.#clock = clock;
  }

  /** Replaces what is served at a path, at once and whole; equal bytes stay what they are, with their date. */
  put(path: string, document: Document): void {
    if (this.#documents.get(path)?.bytes.equals(document.bytes)) return;
    const etag = `"${createHash('sha256').update(document.bytes).digest('base64url')}"`;
    this.#documents.set(path, { ...document, etag });
  }

  /** The HTTP handler. */
  handler(log: Log, metrics: Metrics): RequestListener {
    return (request, response) => {
      const started = performance.now();
      const context = givenContext(request);
      const route = routeOf(request.url ?? '');
      const fields = { listener: 'publication', ...context, method: request.method, route };
      response.on('finish', () => {
        const status = response.statusCode;
        const seconds = (performance.now() - started) / 1000;
        metrics.requests.observe({ listener: 'publication', route, status: String(status) }, seconds);
        log.debug({ ...fields, status }, 'answered');
      });
      try {
        this.#serve(request, response);
      } catch (error) {
        const problem = problemOf(asVouchError(error), 'peer', context.requestId);
        if (problem.status >= 500) log.error({ ...fields, ...errorFields(error) }, 'failed');
        refuse(response, problem);
      }
    };
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    response.setHeader('X-Content-Type-Options', 'nosniff');
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('Allow', 'GET, HEAD');
      throw new VouchError('request-method', 'only GET and HEAD are served here');
    }
    const path = (request.url ?? '').split('?', 1)[0] ?? '';
    const document = this.#documents.get(path) ?? this.#tile(path);
    if (!document) throw new VouchError('request-not-found', 'there is nothing at this path');
    this.#head(response, document);
    if (notModified(request, document)) {
      response.writeHead(304).end();
      return;
    }
    response.setHeader('Content-Type', document.contentType);
    response.setHeader('Content-Length', document.bytes.length);
    response.writeHead(200);
    response.end(request.method === 'HEAD' ? undefined : document.bytes);
  }

  #tile(path: string): Served | undefined {
    const bytes = this.#tiles(path);
    if (!bytes) return undefined;
    const etag = `"${createHash('sha256').update(bytes).digest('base64url')}"`;
    return {
      bytes,
      etag,
      contentType: 'application/octet-stream',
      lastModifiedMs: 0,
      staleUntilSeconds: undefined,
      immutable: true,
    };
  }

  /** A long max-age would undo sub-second revocation at the first proxy, so a second it is; no `Expires`. */
  #head(response: ServerResponse, document: Served): void {
    response.setHeader('ETag', document.etag);
    if (document.lastModifiedMs > 0)
      response.setHeader('Last-Modified', new Date(document.lastModifiedMs).toUTCString());
    response.setHeader(
      'Cache-Control',
      document.immutable
        ? 'public, max-age=31536000, immutable'
        : `public, max-age=1${this.#stale(document)}`,
    );
  }

  #stale({ staleUntilSeconds }: Served): string {
    if (staleUntilSeconds === undefined) return '';
    return `, stale-if-error=${Math.max(0, staleUntilSeconds - Math.floor(this.#clock.now() / 1000))}`;
  }
}

/**
 * RFC 9110 §13.1: If-None-Match decides; If-Modified-Since only without it, and only by the very date that we gave. A
 * CRL's thisUpdate lies up to a minute before its publication, so that "not since" another date could hide a revocation.
 */
function notModified(request: IncomingMessage, document: Served): boolean {
  const match = request.headers['if-none-match']?.slice(0, conditionMaxChars);
  if (match !== undefined)
    return match.split(',').some((tag) => ['*', document.etag, `W/${document.etag}`].includes(tag.trim()));
  const since = Date.parse(request.headers['if-modified-since'] ?? '');
  return document.lastModifiedMs > 0 && Math.floor(document.lastModifiedMs / 1000) * 1000 === since;
}

/** A tile that cannot be read is one answer, not the end of the process. */
function refuse(response: ServerResponse, problem: Problem): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  const body = JSON.stringify(problem);
  response.writeHead(problem.status, {
    'Content-Type': 'application/problem+json',
    'Content-Length': Buffer.byteLength(body),
    // What is not there may be there in a moment; a 404 without this may be kept (RFC 9111 §4.2.2).
    'Cache-Control': 'no-store',
  });
  response.end(body);
}

/** The first path segment, so that metrics stay bounded whatever is asked for. */
function routeOf(url: string): string {
  const first = /^\/(crl|ca|log|bundle\.json|bundle\.pem)(?:\/|$|\?)/.exec(url)?.[1];
  return first ? `/${first}` : 'none';
}
