import { createHash } from 'node:crypto';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { pipeline } from 'node:stream/promises';
import { AwsV4Signer } from 'aws4fetch';
import { VouchError } from '../core/errors.ts';
import { paced } from '../jobs/paced.ts';
import { readKeyFile } from './key-file.ts';
import type { PublishedDocument, PublishTarget } from './port.ts';

/** A bucket of S3 or of what speaks as it does. */
export interface S3Config {
  /** Origin, http or https. */
  endpoint: string;
  bucket: string;
  /** Of all keys, without slashes at its ends; empty: none. */
  prefix: string;
  region: string;
  accessKeyFile: string;
  secretKeyFile: string;
  /** ENDPOINT/BUCKET/KEY instead of BUCKET.ENDPOINT/KEY. */
  pathStyle: boolean;
}

/** Without a byte either way. */
const silenceMs = 10_000;
/** For one request: 50 MB over a slow line. */
const requestMaxMs = 300_000;
/** A writer that loses so often in a row tries again later. */
const rounds = 5;
const versionHeader = 'x-amz-meta-vouch-version';
const answerMaxBytes = 64 * 1024;

/**
 * A bucket. What is there says its version in its metadata, and a document is put on the condition that just that is still there
 * (If-Match, If-None-Match), so that of two writers the lower version loses, whatever their order. The bucket must heed
 * these conditions, as S3, MinIO and R2 do.
 */
export function openS3Target(config: S3Config): PublishTarget {
  return {
    name: `s3 ${config.bucket}${config.prefix && `/${config.prefix}`} at ${config.endpoint}`,
    // The small CRLs of a revocation do not wait for the full one.
    atOnce: 4,
    put: async (path, document, signal) => {
      const bucket = new Bucket(config, AbortSignal.any([signal, AbortSignal.timeout(requestMaxMs)]));
      const url = urlOf(config, path);
      for (let round = 0; round < rounds; round += 1) if (await putOnce(bucket, url, document)) return;
      throw new VouchError('unavailable-server', 'other writers are always faster');
    },
  };
}

/** False where what is there changed meanwhile. */
async function putOnce(bucket: Bucket, url: URL, document: PublishedDocument): Promise<boolean> {
  const { version, chunks, contentType } = document;
  const condition: Record<string, string> = {};
  if (version !== undefined) {
    const present = await bucket.look(url);
    if (present && present.version >= version) return true;
    if (present) condition['if-match'] = present.etag;
    else condition['if-none-match'] = '*';
    condition[versionHeader] = String(version);
  }
  const headers = { ...condition, 'content-type': contentType, 'cache-control': 'public, max-age=1' };
  const { status } = await bucket.ask('PUT', url, headers, chunks, [
    ...[409, 412],
    // Somebody deleted it; without that condition it is the bucket that is not there.
    ...(condition['if-match'] === undefined ? [] : [404]),
  ]);
  return status < 300;
}

function urlOf({ endpoint, bucket, prefix, pathStyle }: S3Config, path: string): URL {
  const url = new URL(endpoint);
  if (!pathStyle) url.hostname = `${bucket}.${url.hostname}`;
  url.pathname = `${pathStyle ? `/${bucket}` : ''}${prefix && `/${prefix}`}${path}`;
  return url;
}

class Bucket {
  readonly #config: S3Config;
  readonly #signal: AbortSignal;

  constructor(config: S3Config, signal: AbortSignal) {
    this.#config = config;
    this.#signal = signal;
  }

  /** What stands at a key; undefined where nothing does. */
  async look(url: URL): Promise<{ version: bigint; etag: string } | undefined> {
    const { status, headers } = await this.ask('HEAD', url, {}, [], [404]);
    if (status === 404) return undefined;
    const version = headers[versionHeader];
    if (typeof version !== 'string' || !/^\d{1,60}$/.test(version) || headers.etag === undefined)
      throw new VouchError('config-state', `${url.pathname} was not put there by Vouch: delete it`);
    return { version: BigInt(version), etag: headers.etag };
  }

  /** One request, signed (SigV4) with its body; rejects where the answer is neither 2xx nor `expected`. */
  async ask(
    method: string,
    url: URL,
    headers: Record<string, string>,
    chunks: readonly Buffer[],
    expected: readonly number[],
  ): Promise<{ status: number; headers: http.IncomingHttpHeaders }> {
    const signed = await this.#signed(method, url, headers, chunks);
    let answer: { response: IncomingMessage; body: string };
    try {
      answer = await this.#send(method, url, signed, chunks);
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : 'no answer';
      throw new VouchError('unavailable-server', code, { cause: error });
    }
    const { statusCode: status = 0, headers: answered } = answer.response;
    if ((status >= 200 && status < 300) || expected.includes(status)) return { status, headers: answered };
    // Nothing else of the answer: some repeat the access key.
    const [, code = ''] = /<Code>([A-Za-z]{1,64})<\/Code>/.exec(answer.body) ?? [];
    const mayPass = status >= 500 || status === 429 || code === 'RequestTimeout' || code === 'SlowDown';
    throw new VouchError(
      mayPass ? 'unavailable-server' : 'config-invalid',
      `${method} was answered with ${status}${code && ` ${code}`}`,
    );
  }

  async #signed(
    method: string,
    url: URL,
    headers: Record<string, string>,
    chunks: readonly Buffer[],
  ): Promise<Record<string, string>> {
    const { accessKeyFile, secretKeyFile, region } = this.#config;
    // Read each time: a key that was replaced is used at once.
    const [accessKeyId, secretAccessKey] = await Promise.all([
      readKeyFile(accessKeyFile),
      readKeyFile(secretKeyFile),
    ]);
    const hashed = { ...headers, 'x-amz-content-sha256': await sha256Hex(chunks) };
    const signer = new AwsV4Signer({
      ...{ method, url: url.href, headers: hashed },
      ...{ accessKeyId, secretAccessKey, region, service: 's3' },
    });
    const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
    return {
      ...Object.fromEntries((await signer.sign()).headers),
      ...(method === 'PUT' && { 'content-length': String(length) }),
    };
  }

  /** The body as it is read; its beginning, where it is an answer to be shown. */
  async #send(
    method: string,
    url: URL,
    headers: Record<string, string>,
    chunks: readonly Buffer[],
  ): Promise<{ response: IncomingMessage; body: string }> {
    const { request } = url.protocol === 'https:' ? https : http;
    const sending = request(url, { method, headers, signal: this.#signal, timeout: silenceMs });
    sending.on('timeout', () => sending.destroy(Object.assign(new Error('silent'), { code: 'ETIMEDOUT' })));
    const answered = new Promise<IncomingMessage>((resolve, reject) => {
      sending.once('response', resolve);
      sending.once('error', reject);
    });
    // An answer that comes before all is sent counts; what is wrong shows there.
    pipeline(paced(chunks), sending).catch(() => undefined);
    const response = await answered;
    let body = '';
    for await (const part of response) {
      body += String(part);
      if (body.length > answerMaxBytes) break;
    }
    return { response, body };
  }
}

async function sha256Hex(chunks: readonly Buffer[]): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of paced(chunks)) hash.update(chunk);
  return hash.digest('hex');
}
