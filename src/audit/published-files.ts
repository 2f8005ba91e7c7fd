import { VouchError } from '../core/errors.ts';
import type { Problems } from './verification.ts';

const timeoutMs = 10_000;

/** What an authority publishes, fetched by path. What is not there, or too large, is a problem of what was published. */
export class PublishedFiles {
  readonly #base: string;
  readonly #problems: Problems;

  constructor(url: string, problems: Problems) {
    this.#base = url.replace(/\/+$/, '');
    this.#problems = problems;
  }

  /** Undefined after a problem. Throws `unavailable-server` where nobody answers, or only that it cannot now. */
  async get(path: string, maxBytes: number): Promise<Buffer | undefined> {
    const url = `${this.#base}${path}`;
    const response = await fetched(url);
    if (response.status >= 500 || response.status === 429)
      throw new VouchError('unavailable-server', `${url} answered ${response.status}`);
    if (!response.ok) {
      this.#problems.add(`${path}: the server answered ${response.status}`);
      return undefined;
    }
    const bytes = await bodyOf(response, url, maxBytes);
    if (!bytes) this.#problems.add(`${path}: it is larger than it can be`);
    return bytes;
  }
}

function fetched(url: string): Promise<Response> {
  return fetch(url, { redirect: 'error', signal: AbortSignal.timeout(timeoutMs) }).catch((cause: unknown) => {
    throw new VouchError('unavailable-server', `cannot fetch ${url}`, { cause });
  });
}

/** Undefined where there are more bytes; they are not read to their end. */
async function bodyOf(response: Response, url: string, maxBytes: number): Promise<Buffer | undefined> {
  const parts: Uint8Array[] = [];
  let length = 0;
  try {
    for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      parts.push(part);
      length += part.length;
      if (length > maxBytes) return undefined;
    }
  } catch (cause) {
    throw new VouchError('unavailable-server', `${url} broke off`, { cause });
  }
  return Buffer.concat(parts, length);
}
