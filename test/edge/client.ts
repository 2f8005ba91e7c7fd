import { generateKeyPairSync, type KeyObject, sign, type X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import http, { type IncomingHttpHeaders } from 'node:http';
import tls, { type ConnectionOptions, type TLSSocket } from 'node:tls';
import {
  bindingInput,
  channelBindingLabel,
  evidenceBytes,
  renewalEvidenceBytes,
} from '../../src/wire/enrollment.ts';
import { buildCsr } from '../../src/x509/csr.ts';
import { joinContent } from '../support/daemon.ts';

/** What came back. */
export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  text: string;
  /** From the first byte sent to the last one read. */
  ms: number;
}

/** A request as a hostile client may make it. */
export interface Sent {
  method?: string;
  path?: string;
  headers?: Record<string, string | number>;
  body?: string | Buffer;
}

/** TLS options, and the address to come from. */
export type DialOptions = ConnectionOptions & { localAddress?: string };

/** A TLS connection to the enrollment listener that believes whoever answers; it is the server that is under test. */
export async function dial(url: string, options: DialOptions = {}): Promise<TLSSocket> {
  const { hostname, port } = new URL(url);
  const socket = tls.connect({ host: hostname, port: Number(port), rejectUnauthorized: false, ...options });
  socket.on('error', () => undefined);
  const failed = once(socket, 'close').then(() => Promise.reject(new Error('the connection was refused')));
  failed.catch(() => undefined);
  await Promise.race([once(socket, 'secureConnect'), failed]);
  return socket;
}

/** One request on a connection that is then closed, unless `keep`. Rejects where the server cuts it instead of answering. */
export function send(socket: TLSSocket, { body, ...sent }: Sent, keep = false): Promise<Answer> {
  const headers: Sent['headers'] = { host: 'vouch', ...sent.headers };
  if (body !== undefined && !('content-length' in headers) && !('transfer-encoding' in headers))
    headers['content-length'] = Buffer.byteLength(body);
  headers.connection ??= keep ? 'keep-alive' : 'close';
  const started = performance.now();
  return new Promise((resolve, reject) => {
    const request = http.request({
      method: sent.method ?? 'POST',
      path: sent.path ?? '/v1/enroll',
      headers,
      createConnection: () => socket,
    });
    request.on('error', reject);
    request.on('response', (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          text,
          ms: performance.now() - started,
        });
        if (!keep) socket.destroy();
      });
    });
    request.end(body);
  });
}

/** A request with a JSON body on a connection of its own. */
export async function post(
  url: string,
  path: string,
  json: unknown,
  options: DialOptions & { headers?: Sent['headers'] } = {},
): Promise<Answer> {
  const { headers, ...connection } = options;
  const socket = await dial(url, connection);
  const body = typeof json === 'string' || Buffer.isBuffer(json) ? json : JSON.stringify(json);
  return send(socket, { path, body, headers: { 'content-type': 'application/json', ...headers } });
}

/** The exporter that the binding covers (RFC 9266). */
function exporterOf(socket: TLSSocket): Buffer {
  return socket.exportKeyingMaterial(32, channelBindingLabel, Buffer.alloc(0));
}

/** The digest that a binding by this key is made with. */
function digestFor(key: KeyObject): string | null {
  if (key.asymmetricKeyType === 'ed25519') return null;
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'sha384' : 'sha256';
}

/** A fresh P-256 key. */
export function newKey(): KeyObject {
  return generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey;
}

/** The body of an honest enrollment on this connection; `csr` may be another than the key's. */
export function enrollBody(socket: TLSSocket, joinFile: string, key = newKey(), csr = buildCsr(key)) {
  const evidence = { type: 'join_token', data: joinContent(joinFile).token };
  const signature = sign(digestFor(key), bindingInput(exporterOf(socket), evidenceBytes(evidence)), key);
  return { evidence, csr: csr.toString('base64'), binding: { signature: signature.toString('base64') } };
}

/** The body of an honest renewal of `certificate` on this connection. */
export function renewBody(socket: TLSSocket, certificate: X509Certificate, key = newKey()) {
  const signature = sign(
    'sha256',
    bindingInput(exporterOf(socket), renewalEvidenceBytes(certificate.raw)),
    key,
  );
  return { csr: buildCsr(key).toString('base64'), binding: { signature: signature.toString('base64') } };
}

/** An honest enrollment. */
export async function enroll(url: string, joinFile: string, key = newKey()): Promise<Answer> {
  const socket = await dial(url);
  const body = JSON.stringify(enrollBody(socket, joinFile, key));
  return send(socket, { body, headers: { 'content-type': 'application/json' } });
}

/** The problem in an answer; throws where it is none. */
export function problemIn({ status, headers, text }: Answer): {
  status: number;
  code: string;
  detail: string;
  requestId?: string;
  type: string;
  title: string;
} {
  if (
    headers['content-type'] !== 'application/problem+json; charset=utf-8' &&
    headers['content-type'] !== 'application/problem+json'
  )
    throw new Error(`${status} ${headers['content-type']}: ${text}`);
  return JSON.parse(text) as ReturnType<typeof problemIn>;
}
