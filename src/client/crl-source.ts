import type { IncomingMessage } from 'node:http';
import { type Clock, systemClock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { retryAfterSeconds } from '../core/retry-after.ts';

/** Largest CRL that is read: a million entries are about 40 MB. */
export const crlMaxBytes = 96 * 1024 * 1024;

/** Longest `Retry-After` that is heeded, in seconds: plain HTTP brings it, and a revocation waits as long. */
const retryAfterMaxSeconds = 60;

/** How long a fetch may take, in milliseconds, and by which clock a URL is left alone. */
export interface CrlSourceOptions {
  /** Without a byte, the first one too. Default 5,000: what waits for it, a start above all, has something to go on with. */
  silenceMs?: number;
  /** From connecting to the last byte. Default 30,000. */
  wholeMs?: number;
  clock?: Clock;
}

// An ESM import of node:http runs its lazy getters, undici among them: 20 ms of an agent's start.
const http = process.getBuiltinModule('node:http');

/** What a fetch brought: new bytes with their ETag, or nothing new. */
export type CrlFetch = { der: Buffer; etag: string | undefined } | 'unchanged';

/**
 * One CRL URL, asked again and again with the ETag of what was last accepted. Plain HTTP without redirects: what comes
 * is not trusted until `verifyCrl` has seen it, and only then `accept` makes its ETag the next condition.
 */
export class CrlSource {
  readonly url: string;
  readonly #agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  readonly #silenceMs: number;
  readonly #wholeMs: number;
  readonly #clock: Clock;
  /** What makes the next fetch conditional. */
  #condition: Record<string, string> = {};
  #refusal: { error: VouchError; untilMs: number } | undefined;

  constructor(url: string, options: CrlSourceOptions = {}) {
    this.url = url;
    this.#silenceMs = options.silenceMs ?? 5000;
    this.#wholeMs = options.wholeMs ?? 30_000;
    this.#clock = options.clock ?? systemClock;
  }

  /**
   * Rejects with `unavailable-server` for anything but 200 or 304, and with `integrity-crl` past `crlMaxBytes`. After a
   * refusal with `Retry-After` it rejects with the same without asking, until that time has passed.
   */
  async fetch(signal: AbortSignal): Promise<CrlFetch> {
    if (this.#refusal !== undefined && this.#clock.monotonicMs() < this.#refusal.untilMs)
      throw this.#refusal.error;
    const deadline = AbortSignal.timeout(this.#wholeMs);
    try {
      return await this.#get(AbortSignal.any([signal, deadline]));
    } catch (cause) {
      if (signal.aborted) throw signal.reason;
      if (cause instanceof VouchError) throw cause;
      const reason = deadline.aborted ? noAnswer(this.#wholeMs) : reasonOf(cause);
      const detail = `the CRL at ${this.url} cannot be fetched: ${reason}`;
      throw new VouchError('unavailable-server', detail, { cause });
    }
  }

  /** Call with what `fetch` returned once it was verified. */
  accept(fetched: { etag: string | undefined }): void {
    this.#condition = fetched.etag === undefined ? {} : { 'if-none-match': fetched.etag };
  }

  /**
   * Call where this CRL came another way. Its URL has thisUpdate as its Last-Modified, and no two CRLs of one URL have the
   * same, so that this is as strong as an ETag (RFC 9110 §8.8.2.2).
   */
  holds({ thisUpdateMs }: { thisUpdateMs: number }): void {
    this.#condition = { 'if-modified-since': new Date(thisUpdateMs).toUTCString() };
  }

  /** Closes the idle connection. */
  close(): void {
    this.#agent.destroy();
  }

  #get(signal: AbortSignal): Promise<CrlFetch> {
    const { promise, resolve, reject } = Promise.withResolvers<CrlFetch>();
    const headers = this.#condition;
    const options = { agent: this.#agent, headers, signal, timeout: this.#silenceMs };
    const request = http.get(this.url, options, (response) => {
      if (response.statusCode === 304 && Object.keys(headers).length > 0) {
        response.resume();
        resolve('unchanged');
        return;
      }
      if (response.statusCode !== 200) {
        request.destroy(this.#refused(response));
        return;
      }
      const chunks: Buffer[] = [];
      let size = 0;
      response.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > crlMaxBytes)
          request.destroy(
            new VouchError('integrity-crl', `the CRL at ${this.url} is larger than ${crlMaxBytes} bytes`),
          );
        else chunks.push(chunk);
      });
      response.on('error', reject);
      response.on('end', () => resolve({ der: Buffer.concat(chunks), etag: response.headers.etag }));
    });
    request.on('timeout', () => request.destroy(new Error(noAnswer(this.#silenceMs))));
    request.on('error', reject);
    return promise;
  }

  #refused({ statusCode, headers }: IncomingMessage): VouchError {
    const detail = `the CRL URL ${this.url} answers ${statusCode}`;
    const asked = retryAfterSeconds(headers['retry-after'], this.#clock.now());
    if (asked === undefined) return new VouchError('unavailable-server', detail);
    const seconds = Math.min(asked, retryAfterMaxSeconds);
    const error = new VouchError('unavailable-server', detail, { retryAfterSeconds: seconds });
    this.#refusal = { error, untilMs: this.#clock.monotonicMs() + seconds * 1000 };
    return error;
  }
}

/** The full CRL's URL beside a shard's, `…/crl/<key id>/<shard>.crl` → `…/crl/<key id>.crl`; others as they are. */
export function fullCrlUrl(distributionPoint: string): string {
  return distributionPoint.replace(/(\/crl\/[0-9a-f]{40})\/[^/]+\.crl$/, '$1.crl');
}

/** Another issuer's full CRL, beside that of the one named in `url`. */
export function crlUrlBeside(url: string, issuerKeyId: string): string {
  return url.replace(/\/crl\/[0-9a-f]{40}\.crl$/, `/crl/${issuerKeyId}.crl`);
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

function noAnswer(withinMs: number): string {
  return `no answer within ${withinMs / 1000} s`;
}
