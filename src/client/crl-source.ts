import { VouchError } from '../core/errors.ts';

/** Largest CRL that is read: a million entries are about 40 MB. */
export const crlMaxBytes = 96 * 1024 * 1024;

/** How long a fetch may take, in milliseconds. */
export interface CrlLimits {
  /** Without a byte, the first one too. Default 5,000: what waits for it, a start above all, has something to go on with. */
  silenceMs?: number;
  /** From connecting to the last byte. Default 30,000. */
  wholeMs?: number;
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
  #etag: string | undefined;

  constructor(url: string, { silenceMs = 5000, wholeMs = 30_000 }: CrlLimits = {}) {
    this.url = url;
    this.#silenceMs = silenceMs;
    this.#wholeMs = wholeMs;
  }

  /** Rejects with `unavailable-server` for anything but 200 or 304, and with `integrity-crl` past `crlMaxBytes`. */
  async fetch(signal: AbortSignal): Promise<CrlFetch> {
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
    this.#etag = fetched.etag;
  }

  /** Closes the idle connection. */
  close(): void {
    this.#agent.destroy();
  }

  #get(signal: AbortSignal): Promise<CrlFetch> {
    const { promise, resolve, reject } = Promise.withResolvers<CrlFetch>();
    const headers = this.#etag === undefined ? {} : { 'if-none-match': this.#etag };
    const options = { agent: this.#agent, headers, signal, timeout: this.#silenceMs };
    const request = http.get(this.url, options, (response) => {
      if (response.statusCode === 304 && this.#etag !== undefined) {
        response.resume();
        resolve('unchanged');
        return;
      }
      if (response.statusCode !== 200) {
        request.destroy(
          new VouchError('unavailable-server', `the CRL URL ${this.url} answers ${response.statusCode}`),
        );
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
}

/** The full CRL's URL beside a shard's, `…/crl/<key id>/<shard>.crl` → `…/crl/<key id>.crl`; others as they are. */
export function fullCrlUrl(distributionPoint: string): string {
  return distributionPoint.replace(/(\/crl\/[0-9a-f]{40})\/[^/]+\.crl$/, '$1.crl');
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown error';
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message;
}

function noAnswer(withinMs: number): string {
  return `no answer within ${withinMs / 1000} s`;
}
