import { createHash, createHmac } from 'node:crypto';
import { once } from 'node:events';
import http, { type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What stands at a key. */
export interface Stored {
  body: Buffer;
  etag: string;
  headers: http.IncomingHttpHeaders;
}

/** The keys that this server takes. */
export const keys = { access: 'AKIATEST', secret: 'not/so+secret' };

/**
 * As much of S3 as a writer needs: HEAD, conditional PUT as S3 has had it since 2024, and SigV4 written a second time. What a test
 * does in `before` happens when a request has come in whole and nothing of it has been done.
 */
export class BucketServer {
  readonly objects = new Map<string, Stored>();
  readonly seen: string[] = [];
  before: (method: string, key: string) => void | Promise<void> = () => undefined;
  /** Answers in the place of the bucket. */
  instead: ((response: ServerResponse) => void) | undefined;
  /** Takes bodies and looks at nothing. */
  isSink = false;
  sunkBytes = 0;
  readonly #server = http.createServer((request, response) => void this.#answer(request, response));

  async start(): Promise<string> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  /** As another writer would. */
  set(key: string, body: string, version?: bigint): void {
    const headers = version === undefined ? {} : { 'x-amz-meta-vouch-version': String(version) };
    this.#store(key, Buffer.from(body), headers);
  }

  text(key: string): string | undefined {
    return this.objects.get(key)?.body.toString().split('\n', 1)[0];
  }

  #store(key: string, body: Buffer, headers: http.IncomingHttpHeaders): string {
    const etag = `"${createHash('md5').update(body).update(JSON.stringify(headers)).digest('hex')}"`;
    this.objects.set(key, { body, etag, headers });
    return etag;
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = '', url: key = '', headers } = request;
    if (this.isSink) {
      for await (const part of request as AsyncIterable<Buffer>) this.sunkBytes += part.length;
      response.writeHead(method === 'HEAD' ? 404 : 200).end();
      return;
    }
    const body = Buffer.concat(await request.toArray());
    this.seen.push(`${method} ${key}`);
    await this.before(method, key);
    if (this.instead) {
      this.instead(response);
      return;
    }
    if (!isSigned(request, body)) {
      refuse(response, 403, 'SignatureDoesNotMatch');
      return;
    }
    const present = this.objects.get(key);
    if (method === 'HEAD') {
      const version = present?.headers['x-amz-meta-vouch-version'];
      response.writeHead(present ? 200 : 404, {
        ...(present && { etag: present.etag }),
        ...(version !== undefined && { 'x-amz-meta-vouch-version': version }),
      });
      response.end();
      return;
    }
    if (headers['if-match'] !== undefined && !present) refuse(response, 404, 'NoSuchKey');
    else if (headers['if-match'] !== undefined && headers['if-match'] !== present?.etag)
      refuse(response, 412, 'PreconditionFailed');
    else if (headers['if-none-match'] === '*' && present) refuse(response, 412, 'PreconditionFailed');
    else response.writeHead(200, { etag: this.#store(key, body, headers) }).end();
  }
}

export function refuse(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/xml' });
  response.end(`<Error><Code>${code}</Code><AWSAccessKeyId>${keys.access}</AWSAccessKeyId></Error>`);
}

/** SigV4 as AWS writes it down, for what has no query. */
function isSigned({ method, url, headers }: IncomingMessage, body: Buffer): boolean {
  const [, day, region, names, given] =
    /^AWS4-HMAC-SHA256 Credential=AKIATEST\/(\d{8})\/([a-z0-9-]+)\/s3\/aws4_request, ?SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})$/.exec(
      headers.authorization ?? '',
    ) ?? [];
  const bodyHash = createHash('sha256').update(body).digest('hex');
  if (!day || !region || !names || bodyHash !== headers['x-amz-content-sha256']) return false;
  // What decides about a write must not be taken away on its way.
  for (const name of ['if-match', 'if-none-match', 'x-amz-meta-vouch-version', 'host', 'x-amz-date'])
    if (headers[name] !== undefined && !names.split(';').includes(name)) return false;
  const lines = names.split(';').map((name) => `${name}:${String(headers[name])}\n`);
  const canonical = [method, url, '', lines.join(''), names, bodyHash].join('\n');
  const scope = `${day}/${region}/s3/aws4_request`;
  const hashed = createHash('sha256').update(canonical).digest('hex');
  const hmac = (key: string | Buffer, text: string): Buffer =>
    createHmac('sha256', key).update(text).digest();
  const key = [day, region, 's3', 'aws4_request'].reduce<string | Buffer>(hmac, `AWS4${keys.secret}`);
  const text = ['AWS4-HMAC-SHA256', headers['x-amz-date'], scope, hashed].join('\n');
  return hmac(key, text).toString('hex') === given;
}
