import { createHash, createPublicKey, randomBytes, verify } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer, type Server as TlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { rfc3339 } from '../../../src/core/clock.ts';
import {
  bindingInput,
  type CertificateAnswerJson,
  type EnrollRequest,
  enrollRequestSchema,
  evidenceBytes,
  type RenewRequest,
  renewalEvidenceBytes,
  renewRequestSchema,
} from '../../../src/wire/enrollment.ts';
import { formatJoinFile } from '../../../src/wire/join-file.ts';
import { parseCertificate } from '../../../src/x509/certificate.ts';
import { parseCsr, verifyCsr } from '../../../src/x509/csr.ts';
import { chainPem, type FakeAuthority, type FakeKey, newKey } from './fake-authority.ts';

/** What a handler may answer with instead of a certificate. */
export interface RawAnswer {
  status: number;
  headers?: Record<string, string>;
  body?: string;
  /** Send only half of the body and drop the connection. */
  half?: boolean;
  /** Answer nothing. */
  silent?: boolean;
}

/** A certificate as it is about to be answered; tests bend it. */
export interface Draft {
  answer: CertificateAnswerJson;
  kind: 'enroll' | 'renew';
  seenTreeSize: number | undefined;
}

/** Speaks the wire protocol over real TLS, and publishes CRLs over HTTP. Every attack is a bend of it. */
export class FakeServer {
  readonly authority: FakeAuthority;
  readonly #tls: TlsServer;
  readonly #publication: Server;
  /** Token → the DER SPKI hash it was used with. */
  readonly tokens = new Map<string, string | undefined>();
  readonly issued = new Map<string, Buffer>();
  readonly logged = new Map<string, { index: number; time: number; context: string }>();
  /** Identity of new certificates. */
  spiffeId: string;
  lifetimeMs = 3_600_000;
  peers: { version: number; allowedClients: string[] } = { version: 1, allowedClients: [] };
  /** Comes before anything else for enroll and renew; undefined goes on. */
  intercept: ((kind: 'enroll' | 'renew', count: number) => RawAnswer | undefined) | undefined;
  /** Changes the answer at the end. */
  bend: ((draft: Draft) => CertificateAnswerJson) | undefined;
  /** Instead of the CRL; undefined serves it. */
  crlInstead: ((keyId: string) => RawAnswer | { der: Buffer } | undefined) | undefined;
  /** The issuer's delta CRL; undefined: there is none. */
  delta: Buffer | undefined;
  /** Answers who watches; undefined: there is no such path. */
  watch: ((request: IncomingMessage, response: ServerResponse) => void) | undefined;
  /** Answers further paths of the enrollment listener. */
  readonly routes = new Map<string, (text: string, request: IncomingMessage) => object | RawAnswer>();
  /** Added to the server's clock. */
  clockOffsetMs = 0;
  renewal = { earliestSeconds: 1440, latestSeconds: 2160 };
  /** Paths of every request that came. */
  readonly requests: string[] = [];
  /** TCP connections that came to the enrollment listener. */
  connections = 0;
  /** Bodies of its requests. */
  readonly bodies: string[] = [];
  /** Handshakes that broke off. */
  handshakeErrors = 0;

  private constructor(authority: FakeAuthority, chain: { cert: string; key: string }) {
    this.authority = authority;
    this.spiffeId = `spiffe://${authority.trustDomain}/orders`;
    this.#tls = createTlsServer(
      {
        ...chain,
        minVersion: 'TLSv1.3',
        requestCert: true,
        rejectUnauthorized: false,
        ca: chainPem(authority.root.der),
      },
      (request, response) => void this.#enrollment(request, response),
    );
    this.#tls.on('connection', () => {
      this.connections += 1;
    });
    this.#tls.on('tlsClientError', () => {
      this.handshakeErrors += 1;
    });
    this.#publication = createServer((request, response) => this.#publish(request, response));
  }

  /** Starts on free ports. `server`: PEM of what it shows in the handshake; default the right one. */
  static async start(authority: FakeAuthority, server = serverChain(authority)): Promise<FakeServer> {
    const fake = new FakeServer(authority, server);
    await listen(fake.#publication, 0);
    authority.publicationUrl = `http://127.0.0.1:${portOf(fake.#publication)}`;
    await listen(fake.#tls, 0);
    return fake;
  }

  get url(): string {
    return `https://127.0.0.1:${portOf(this.#tls)}`;
  }

  get port(): number {
    return portOf(this.#tls);
  }

  /** A join file's line for a fresh token. */
  joinLine(over: Partial<Parameters<typeof formatJoinFile>[0]> = {}): string {
    const token = `vjt_${randomBytes(32).toString('base64url')}abcdef`;
    this.tokens.set(token, undefined);
    return formatJoinFile({
      server: this.url,
      trustDomain: this.authority.trustDomain,
      pin: this.authority.pin,
      token,
      floor: { statement: 1, bundle: 1, treeSize: this.authority.leafHashes.length },
      ...over,
    });
  }

  /** Who takes connections that came otherwise than over a port: the enrollment listener behind its TLS, the publication. */
  get listeners(): { enrollment: TlsServer; publication: Server } {
    return { enrollment: this.#tls, publication: this.#publication };
  }

  /** The server is away: connections are refused until `comeBack`. */
  async goAway(): Promise<() => Promise<void>> {
    const port = portOf(this.#tls);
    await close(this.#tls);
    return () => listen(this.#tls, port);
  }

  async stop(): Promise<void> {
    await Promise.all([close(this.#tls), close(this.#publication)]);
  }

  async #enrollment(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    this.requests.push(path);
    if (path === '/v1/bundle') {
      json(response, 200, this.authority.bundle());
      return;
    }
    if (path === '/v1/watch') {
      if (this.watch) this.watch(request, response);
      else sendRaw(response, problem(404, 'request-not-found', 'there is nothing at this path'));
      return;
    }
    const text = await bodyOf(request);
    this.bodies.push(text);
    const route = this.routes.get(path);
    if (route) {
      const routed = route(text, request);
      if (isRaw(routed)) sendRaw(response, routed);
      else json(response, 200, routed);
      return;
    }
    const kind = path === '/v1/enroll' ? 'enroll' : 'renew';
    const raw = this.intercept?.(kind, this.requests.filter((one) => one === path).length);
    if (raw !== undefined) {
      sendRaw(response, raw);
      return;
    }
    const result = kind === 'enroll' ? this.#enroll(text, request) : this.#renew(text, request);
    if ('status' in result) sendRaw(response, result);
    else json(response, 200, result);
  }

  #enroll(text: string, request: IncomingMessage): CertificateAnswerJson | RawAnswer {
    const body = enrollRequestSchema.parse(JSON.parse(text));
    const key = checkBinding(body, evidenceBytes(body.evidence), request);
    const { data } = body.evidence;
    if (!this.tokens.has(data)) return problem(401, 'denied-evidence', 'no such token');
    const used = this.tokens.get(data);
    if (used !== undefined && used !== key.sha256)
      return problem(409, 'policy-key-conflict', 'the join token was used with another key');
    this.tokens.set(data, key.sha256);
    return this.#answer('enroll', key, body.treeSize, this.spiffeId);
  }

  #renew(text: string, request: IncomingMessage): CertificateAnswerJson | RawAnswer {
    const body = renewRequestSchema.parse(JSON.parse(text));
    const der = (request.socket as TLSSocket).getPeerX509Certificate()?.raw;
    if (der === undefined) return problem(401, 'denied-certificate', 'no client certificate');
    const certificate = parseCertificate(der);
    if (this.authority.revoked.has(certificate.serial))
      return problem(403, 'denied-revoked', 'the certificate is revoked');
    const key = checkBinding(body, renewalEvidenceBytes(der), request);
    return this.#answer('renew', key, body.treeSize, certificate.uris[0] ?? '');
  }

  #answer(
    kind: Draft['kind'],
    key: { spki: Buffer; sha256: string },
    seenTreeSize: number | undefined,
    spiffeId: string,
  ): CertificateAnswerJson {
    const { authority } = this;
    const nowMs = Date.now() + this.clockOffsetMs;
    const der =
      this.issued.get(key.sha256) ??
      authority.issue(key.spki, {
        uris: [spiffeId],
        notBeforeSeconds: Math.floor(nowMs / 1000) - 60,
        notAfterSeconds: Math.floor((nowMs + this.lifetimeMs) / 1000) - 1,
      });
    const logged = this.logged.get(key.sha256) ?? authority.append(parseCertificate(der).tbs);
    this.issued.set(key.sha256, der);
    this.logged.set(key.sha256, logged);
    const treeSize = authority.leafHashes.length;
    const answer: CertificateAnswerJson = {
      chain: [der, authority.issuer.der, authority.root.der].map((one) => one.toString('base64')),
      bundle: authority.bundle(),
      proof: {
        ...logged,
        treeSize,
        path: authority.inclusion(logged.index),
        checkpoint: authority.checkpoint(),
      },
      ...(seenTreeSize === undefined || seenTreeSize === 0 || seenTreeSize > treeSize
        ? {}
        : { consistency: authority.consistency(seenTreeSize) }),
      renewal: this.renewal,
      peers: this.peers,
      time: rfc3339(nowMs),
      ...(authority.otherIssuers.length > 0
        ? {
            issuers: [authority.issuer, ...authority.otherIssuers].map((one) => one.der.toString('base64')),
          }
        : {}),
      crlUrls: [authority.issuer, authority.root, ...authority.otherIssuers].map(({ keyId }) => ({
        keyId,
        url: `${authority.publicationUrl}/crl/${keyId}.crl`,
      })),
    };
    return this.bend?.({ answer, kind, seenTreeSize }) ?? answer;
  }

  #publish(request: IncomingMessage, response: ServerResponse): void {
    const path = request.url ?? '';
    this.requests.push(path);
    if (path.endsWith('/delta.crl') && this.delta) {
      response.writeHead(200, { 'content-type': 'application/pkix-crl' }).end(this.delta);
      return;
    }
    const keyId = /^\/crl\/([0-9a-f]{40})\.crl$/.exec(path)?.[1] ?? '';
    const instead = this.crlInstead?.(keyId);
    if (instead !== undefined && 'status' in instead) {
      sendRaw(response, instead);
      return;
    }
    const { authority } = this;
    const { issuer, root, otherIssuers } = authority;
    const ca = [issuer, root, ...otherIssuers].find((one) => one.keyId === keyId);
    if (ca === undefined) {
      response.writeHead(404).end();
      return;
    }
    const der = instead?.der ?? authority.crl(ca);
    const etag = `"${instead === undefined ? authority.crlNumber : createHash('sha256').update(der).digest('hex')}"`;
    if (request.headers['if-none-match'] === etag) response.writeHead(304, { etag }).end();
    else response.writeHead(200, { etag, 'content-type': 'application/pkix-crl' }).end(der);
  }
}

/** PEM chain and key as the real server shows them: leaf, issuer, root. */
export function serverChain(
  authority: FakeAuthority,
  uri = `spiffe://${authority.trustDomain}/vouch/server`,
  over: Partial<Parameters<FakeAuthority['issue']>[1]> = {},
  key: FakeKey = newKey(),
): { cert: string; key: string } {
  const leaf = authority.issue(key.spki, {
    uris: [uri],
    dnsNames: ['localhost'],
    ipAddresses: ['127.0.0.1'],
    ...over,
  });
  return { cert: chainPem(leaf, authority.issuer.der, authority.root.der), key: key.pem };
}

/** An `application/problem+json` answer. */
export function problem(
  status: number,
  code: string,
  detail: string,
  headers: Record<string, string> = {},
): RawAnswer {
  return {
    status,
    headers: { 'content-type': 'application/problem+json', ...headers },
    body: JSON.stringify({ type: `urn:vouch:problem:${code}`, title: code, status, code, detail }),
  };
}

function checkBinding(
  body: EnrollRequest | RenewRequest,
  evidence: Buffer,
  request: IncomingMessage,
): { spki: Buffer; sha256: string } {
  const csr = parseCsr(body.csr);
  const key = verifyCsr(csr);
  const exporter = (request.socket as TLSSocket).exportKeyingMaterial(
    32,
    'EXPORTER-Channel-Binding',
    Buffer.alloc(0),
  );
  const publicKey = createPublicKey({ key: csr.spki, format: 'der', type: 'spki' });
  if (!verify('sha256', bindingInput(exporter, evidence), publicKey, body.binding.signature))
    throw new Error('the binding does not hold');
  return { spki: csr.spki, sha256: key.sha256 };
}

function isRaw(answer: object): answer is RawAnswer {
  return 'status' in answer && typeof answer.status === 'number';
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function json(response: ServerResponse, status: number, value: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(value));
}

function sendRaw(response: ServerResponse, raw: RawAnswer): void {
  if (raw.silent === true) return;
  const body = raw.body ?? '';
  response.writeHead(raw.status, { ...raw.headers, 'content-length': Buffer.byteLength(body) });
  if (raw.half !== true) {
    response.end(body);
    return;
  }
  response.write(body.slice(0, body.length / 2), () => response.destroy());
}

function listen(server: Server | TlsServer, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, '127.0.0.1', () => resolve());
  });
}

function close(server: Server | TlsServer): Promise<void> {
  return new Promise((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  });
}

function portOf(server: Server | TlsServer): number {
  return (server.address() as AddressInfo).port;
}
