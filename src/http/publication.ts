import { createHash } from 'node:crypto';
import type { IncomingMessage, RequestListener, ServerResponse } from 'node:http';
import { pipeline } from 'node:stream';
import type { Clock } from '../core/clock.ts';
import { asVouchError, VouchError } from '../core/errors.ts';
import { paced } from '../jobs/paced.ts';
import type { PublishedDocument } from '../publish/port.ts';
import { errorFields, type Log } from '../telemetry/log.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type Problem, problemOf } from '../core/problem.ts';
import { acceptsGzip, gzipLeastBytes, gzipped } from './gzip.ts';
import { type ByteRange, chunksOf, rangeOf } from './range.ts';
import { isOcspUrl, type OcspHandler } from './ocsp.ts';
import { givenContext } from './request-context.ts';

/** Bytes as they are served, with what HTTP needs to say of them. */
export interface Document extends PublishedDocument {
  /** Strong and quoted, other where any byte is (RFC 9110 §8.8.1); absent: computed from the bytes, at once. */
  etag?: string;
  lastModifiedMs: number;
  /** Unix seconds until which a cache may serve it while we are away; undefined: no such limit. */
  staleUntilSeconds: number | undefined;
  /** Never changes: may be kept for ever. */
  immutable: boolean;
}

interface Served extends Document {
  etag: string;
  byteLength: number;
  /** Its gzip form, once it is made. */
  gzip?: Representation;
}

/** Bytes and tag of one form of a document. */
interface Representation {
  chunks: readonly Buffer[];
  etag: string;
  byteLength: number;
}

/** A long one would undo sub-second revocation at the first proxy. */
const maxAgeSeconds = 1;
/** Largest conditional header that is looked at. */
const conditionMaxChars = 1024;

/**
 * The publication listener: GET and HEAD of bytes that lie in memory, by exact path. What is large is neither joined nor
 * copied for those who read it. It asks neither database nor
 * signer, so that CRLs and bundle stay served while those are away.
 */
export class Publication {
  readonly #documents = new Map<string, Served>();
  readonly #tiles: (path: string) => Buffer | undefined;
  readonly #clock: Clock;

  readonly #replaced: (path: string, document: Document) => void;

  /** `tiles` resolves log tiles, which are many and lie on disk; `replaced` is told of each document that is new at its path. */
  constructor(
    tiles: (path: string) => Buffer | undefined,
    clock: Clock,
    replaced: (path: string, document: Document) => void = () => undefined,
  ) {
    this.#tiles = tiles;
    this.#clock = clock;
    this.#replaced = replaced;
  }

  /** Replaces what is served at a path, at once and whole; what has the same tag stays what it is, with its date. */
  put(path: string, document: Document): void {
    const served = servedOf(document);
    if (this.#documents.get(path)?.etag === served.etag) return;
    this.#documents.set(path, served);
    if (mayBeGzipped(served)) void this.#addGzip(path, served);
    this.#replaced(path, document);
  }

  /** In the background: until it is there, or where memory for it is not, the document is served as it is. */
  async #addGzip(path: string, served: Served): Promise<void> {
    const isServed = (): boolean => this.#documents.get(path) === served;
    const chunks = await gzipped(served.chunks, isServed).catch(() => undefined);
    if (chunks)
      served.gzip = { chunks, byteLength: lengthOf(chunks), etag: served.etag.replace(/"$/, '-gz"') };
  }

  /** The HTTP handler; `ocsp` serves what is below `/ocsp`, the one thing here that is more than bytes. */
  handler(log: Log, metrics: Metrics, ocsp?: OcspHandler): RequestListener {
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
      const fail = (error: unknown): void => {
        const problem = problemOf(asVouchError(error), 'peer', context.requestId);
        if (problem.status >= 500) log.error({ ...fields, ...errorFields(error) }, 'failed');
        refuse(response, problem);
      };
      try {
        if (ocsp && isOcspUrl(request.url ?? '')) void ocsp(request, response).catch(fail);
        else this.#serve(request, response);
      } catch (error) {
        fail(error);
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
    const held = heldBy(request, document);
    if (held !== undefined) {
      response.setHeader('ETag', held);
      response.writeHead(304).end();
      return;
    }
    response.setHeader('Content-Type', document.contentType);
    const range = askedRange(request, document);
    if (range === undefined) sendWhole(request, response, document);
    else sendRange(response, document, range);
  }

  #tile(path: string): Served | undefined {
    const bytes = this.#tiles(path);
    return (
      bytes &&
      servedOf({
        chunks: [bytes],
        contentType: 'application/octet-stream',
        lastModifiedMs: 0,
        staleUntilSeconds: undefined,
        immutable: true,
      })
    );
  }

  /** No `Expires`: what a cache may do is said once. */
  #head(response: ServerResponse, document: Served): void {
    response.setHeader('ETag', document.etag);
    response.setHeader('Accept-Ranges', 'bytes');
    if (mayBeGzipped(document)) response.setHeader('Vary', 'Accept-Encoding');
    if (document.lastModifiedMs > 0)
      response.setHeader('Last-Modified', new Date(document.lastModifiedMs).toUTCString());
    response.setHeader(
      'Cache-Control',
      document.immutable
        ? 'public, max-age=31536000, immutable'
        : `public, max-age=${maxAgeSeconds}${this.#stale(document)}`,
    );
  }

  /** It counts from where max-age ends (RFC 5861 §4). */
  #stale({ staleUntilSeconds }: Served): string {
    if (staleUntilSeconds === undefined) return '';
    const left = staleUntilSeconds - Math.ceil(this.#clock.now() / 1000) - maxAgeSeconds;
    return `, stale-if-error=${Math.max(0, left)}`;
  }
}

function servedOf(document: Document): Served {
  return {
    ...document,
    byteLength: lengthOf(document.chunks),
    etag: document.etag ?? etagOf(document.chunks),
  };
}

function lengthOf(chunks: readonly Buffer[]): number {
  return chunks.reduce((sum, { length }) => sum + length, 0);
}

/** A strong tag over these bytes (RFC 9110 §8.8.3). */
function etagOf(chunks: readonly Buffer[]): string {
  const hash = createHash('sha256');
  for (const chunk of chunks) hash.update(chunk);
  return `"${hash.digest('base64url')}"`;
}

/** Whether it may come in two forms, so that caches have to tell them apart. */
function mayBeGzipped({ immutable, byteLength }: Served): boolean {
  return !immutable && byteLength >= gzipLeastBytes;
}

/**
 * The tag of the form that the peer has already (RFC 9110 §13.1): If-None-Match decides; If-Modified-Since only without it,
 * and only by the very date that we gave. A CRL's thisUpdate lies up to a minute before its publication, so that "not
 * since" another date could hide a revocation.
 */
function heldBy(request: IncomingMessage, document: Served): string | undefined {
  const match = request.headers['if-none-match']?.slice(0, conditionMaxChars);
  if (match !== undefined) {
    const tags = match.split(',').map((tag) => tag.trim().replace(/^W\//, ''));
    if (tags.includes('*')) return document.etag;
    return [document.etag, document.gzip?.etag].find((etag) => etag !== undefined && tags.includes(etag));
  }
  const since = Date.parse(request.headers['if-modified-since'] ?? '');
  const isHeld = document.lastModifiedMs > 0 && Math.floor(document.lastModifiedMs / 1000) * 1000 === since;
  return isHeld ? document.etag : undefined;
}

/** Of GET only (RFC 9110 §14.2), and of the form without content coding; If-Range only by tag (§13.1.5). */
function askedRange(request: IncomingMessage, document: Served): ReturnType<typeof rangeOf> {
  const condition = request.headers['if-range'];
  if (request.method !== 'GET' || (condition !== undefined && condition !== document.etag)) return undefined;
  return rangeOf(request.headers.range, document.byteLength);
}

function sendWhole(request: IncomingMessage, response: ServerResponse, document: Served): void {
  const form = (acceptsGzip(request.headers['accept-encoding']) && document.gzip) || document;
  if (form !== document) response.setHeader('Content-Encoding', 'gzip');
  response.setHeader('ETag', form.etag);
  response.setHeader('Content-Length', form.byteLength);
  response.writeHead(200);
  if (request.method === 'HEAD') response.end();
  else send(response, form.chunks);
}

function sendRange(
  response: ServerResponse,
  { chunks, byteLength }: Served,
  range: ByteRange | 'unsatisfiable',
): void {
  if (range === 'unsatisfiable') {
    response.writeHead(416, { 'Content-Range': `bytes */${byteLength}`, 'Content-Length': 0 }).end();
    return;
  }
  response.setHeader('Content-Range', `bytes ${range.from}-${range.to}/${byteLength}`);
  response.setHeader('Content-Length', range.to - range.from + 1);
  response.writeHead(206);
  send(response, chunksOf(chunks, range));
}

/** Chunk by chunk, at the reader's pace. One that goes away is not worth a word. */
function send(response: ServerResponse, chunks: Iterable<Buffer>): void {
  pipeline(paced(chunks), response, () => undefined);
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
  const first = /^\/(crl|ca|log|ocsp|\.well-known|bundle\.json|bundle\.pem)(?:\/|$|\?)/.exec(url)?.[1];
  return first ? `/${first}` : 'none';
}
