import { createPublicKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import type { NodeAttestor } from '../../../src/attestation/port.ts';
import { bundleOf } from '../../../src/authority/bundle.ts';
import { AgentEntries } from '../../../src/registration/agent-entries.ts';
import { WatchHub } from '../../../src/watch/hub.ts';
import { ServerIdentity } from '../../../src/authority/server-identity.ts';
import { Svids } from '../../../src/enrollment/svids.ts';
import { Challenges } from '../../../src/enrollment/challenge.ts';
import { JwtSvids } from '../../../src/enrollment/jwt-svids.ts';
import { jwtTurns } from '../../../src/enrollment/jwt-turns.ts';
import { Admission, FailureLimits } from '../../../src/http/admission.ts';
import { enrollmentApi } from '../../../src/http/enrollment-api.ts';
import { type Listener, listenTls } from '../../../src/http/listeners.ts';
import { caOf } from '../../../src/issuance/issuer.ts';
import type { LogKey } from '../../../src/log/note.ts';
import { openStatement } from '../../../src/log/statement.ts';
import { Metrics } from '../../../src/telemetry/metrics.ts';
import {
  bindingInput,
  type CertificateAnswerJson,
  channelBindingLabel,
  evidenceBytes,
  renewalEvidenceBytes,
} from '../../../src/wire/enrollment.ts';
import { buildCsr } from '../../../src/x509/csr.ts';
import { decodePem, encodePem } from '../../../src/x509/pem.ts';
import { type SoftwareAuthority, trustDomain } from '../../support/software-authority.ts';
import { enrollmentOver } from './enrollee.ts';

/** The enrollment listener as the server opens it, over an authority in memory. */
export interface ListeningServer {
  authority: SoftwareAuthority;
  port: number;
  rootPem: string;
  hub: WatchHub;
  close(): Promise<void>;
}

/** Opens it on a free port. `attestors` in place of the join tokens'. */
export async function listeningServer(
  authority: SoftwareAuthority,
  attestors?: readonly NodeAttestor[],
): Promise<ListeningServer> {
  const authoritiesOf = () => [authority.issuerDer, authority.rootDer];
  const tokenIssuer = 'https://oidc.test.example';
  const bundle = bundleOf({
    rootCertificates: [authority.rootDer],
    ...{ statement: 'statement', statementSequence: 1, jwtKeys: authority.store.jwtKeys(), tokenIssuer },
  });
  const hub = new WatchHub({ store: authority.store, timeMs: () => authority.clock.now() });
  const api = enrollmentApi({
    ...authority,
    authoritiesOf,
    issuers: () => [authority.issuer],
    enrollment: enrollmentOver(authority, attestors),
    challenges: new Challenges(),
    bundle: () => bundle,
    jwtSvids: new JwtSvids({ ...authority, bundle: () => bundle, tokenIssuer, lifetimeSeconds: 300 }),
    crlUrls: () => [],
    hub,
    agentEntries: new AgentEntries(authority.store),
    svids: new Svids({ ...authority, limits: { atOnce: 60, perLifetime: 4 } }),
    admission: new Admission(512),
    jwtTurns: jwtTurns(512, authority.clock),
    limits: new FailureLimits(10_000),
    log: { debug() {}, info() {}, warn() {}, error() {} },
    logKeys: [logKeyOf(authority)],
    metrics: new Metrics(),
  });
  const identity = new ServerIdentity({
    timeMs: () => authority.clock.now(),
    ...authority,
    authoritiesOf,
    trustDomain,
    urls: ['https://127.0.0.1'],
    isRevoked: () => false,
    files: {
      certificate: path.join(authority.folder, 'svid.pem'),
      key: path.join(authority.folder, 'svid.key'),
    },
  });
  const listener: Listener = await listenTls(
    api,
    { host: '127.0.0.1', port: 0 },
    await identity.renewedWhenDue(),
  );
  return {
    authority,
    port: listener.port ?? 0,
    rootPem: encodePem('CERTIFICATE', authority.rootDer),
    hub,
    close: () => listener.close(100),
  };
}

/** The log's key, as the root's statement names it. */
export function logKeyOf(authority: SoftwareAuthority): LogKey {
  const statement = openStatement(authority.store.statement() ?? '', caOf(authority.rootDer).publicKey);
  const [key] = statement.logKeys;
  if (!key) throw new Error('a statement names a log key');
  return key;
}

/** What the server answered. */
export interface Answered {
  status: number;
  /** The problem's code, or `allowed`. */
  code: string;
  body: unknown;
  headers: Record<string, unknown>;
}

/** A certificate with its key, as a client shows it. */
export interface ClientIdentity {
  key: KeyObject;
  /** DER. */
  leaf: Buffer;
  chainPem: string;
}

/** A client on one connection that it keeps open; every request is bound to it. */
export class Client {
  readonly socket: TLSSocket;
  readonly #agent: https.Agent;
  readonly #identity: ClientIdentity | undefined;

  private constructor(socket: TLSSocket, identity: ClientIdentity | undefined) {
    this.socket = socket;
    this.#identity = identity;
    this.#agent = new https.Agent({ keepAlive: true, maxSockets: 1 });
    Object.assign(this.#agent, { createConnection: () => socket });
  }

  /** Connects, with a client certificate where one is given. */
  static async connect(
    server: ListeningServer,
    identity?: ClientIdentity,
    options: ConnectionOptions = {},
  ): Promise<Client> {
    const shown = identity && {
      cert: identity.chainPem,
      key: identity.key.export({ format: 'pem', type: 'pkcs8' }).toString(),
    };
    const socket = connect({
      ...{ host: '127.0.0.1', port: server.port, ca: server.rootPem, minVersion: 'TLSv1.3' },
      ...shown,
      ...options,
    });
    await once(socket, 'secureConnect');
    return new Client(socket, identity);
  }

  /** Posts JSON, or text as it is. */
  async post(pathname: string, body: unknown): Promise<Answered> {
    const payload = typeof body === 'string' ? body : JSON.stringify(body);
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(payload) };
    const request = https.request({
      method: 'POST',
      host: '127.0.0.1',
      path: pathname,
      agent: this.#agent,
      headers,
    });
    request.end(payload);
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    const answer: unknown = JSON.parse((await text(response)) || 'null');
    const status = response.statusCode ?? 0;
    const problem = answer as { code?: string } | null;
    return {
      status,
      code: status === 200 ? 'allowed' : (problem?.code ?? 'none'),
      body: answer,
      headers: response.headers,
    };
  }

  /** Enrolls a fresh key; the answer, and the identity where one came. */
  async enroll(
    token: string,
    over: Record<string, unknown> = {},
  ): Promise<Answered & { identity: ClientIdentity | undefined }> {
    const { privateKey: key } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const evidence = { type: 'join_token', data: token };
    const signed = (over.evidence as typeof evidence | undefined) ?? evidence;
    const answered = await this.post('/v1/enroll', {
      evidence,
      csr: buildCsr(key).toString('base64'),
      binding: { signature: this.binding(evidenceBytes(signed), key) },
      ...over,
    });
    return { ...answered, identity: identityIn(answered, key) };
  }

  /** Renews the certificate that this connection was made with; `key` in place of a fresh one. */
  async renew(
    key: KeyObject = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey,
    claimed = this.#identity?.leaf ?? Buffer.alloc(0),
  ): Promise<Answered & { identity: ClientIdentity | undefined }> {
    const answered = await this.post('/v1/renew', {
      csr: buildCsr(key).toString('base64'),
      binding: { signature: this.binding(renewalEvidenceBytes(claimed), key) },
    });
    return { ...answered, identity: identityIn(answered, key) };
  }

  /** The binding's signature for this connection. */
  binding(evidence: Buffer, key: KeyObject): string {
    const exporter = this.socket.exportKeyingMaterial(32, channelBindingLabel, Buffer.alloc(0));
    return sign('sha256', bindingInput(exporter, evidence), key).toString('base64');
  }

  close(): void {
    this.#agent.destroy();
    this.socket.destroy();
  }
}

/** PEM of leaf and issuers for a client's handshake. */
export function identityOf(leaf: Buffer, issuers: readonly Buffer[], key: KeyObject): ClientIdentity {
  return { key, leaf, chainPem: [leaf, ...issuers].map((der) => encodePem('CERTIFICATE', der)).join('') };
}

function identityIn(answered: Answered, key: KeyObject): ClientIdentity | undefined {
  if (answered.status !== 200) return undefined;
  const { chain } = answered.body as CertificateAnswerJson;
  const [leaf, ...issuers] = chain.map((der) => Buffer.from(der, 'base64'));
  if (!leaf) throw new Error('an answer without certificate');
  return identityOf(leaf, issuers.slice(0, -1), key);
}

/** The server's own identity, as somebody who stole its files has it. */
export function stolenServerIdentity(keyPem: KeyObject, certificatePem: string): ClientIdentity {
  const [leaf, ...issuers] = decodePem(certificatePem, 'CERTIFICATE');
  if (!leaf) throw new Error('no certificate');
  return identityOf(leaf, issuers, keyPem);
}

/** DER SubjectPublicKeyInfo. */
export function publicKeyOf(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: 'spki', format: 'der' });
}
