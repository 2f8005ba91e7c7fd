import { constants } from 'node:crypto';
import type { Agent, Server as HttpsServer } from 'node:https';
import { type ConnectionOptions, type Server, type TlsOptions, TLSSocket } from 'node:tls';
import { type Clock, systemClock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import { type AllowedPeers, parseAllowed } from './allowed.ts';
import { Connections } from './connections.ts';
import { startCrlFetch } from './crl-fetch.ts';
import { DeliveredTrust } from './delivered-trust.ts';
import { OutgoingAgent } from './outgoing-agent.ts';
import { checkPeer, mayStay, type Peer, type Trust } from './peer.ts';
import { watchDelivered } from './watch.ts';

export { type ErrorCode, VouchError } from '../core/errors.ts';
export type { Peer } from './peer.ts';

/** How a service opens its delivered identity. */
export interface VouchOptions {
  /** The folder that `vouch exec` or `vouch enroll` fills. Default: `VOUCH_DIR`, which `vouch exec` sets. */
  dir?: string | undefined;
  /** Who may call: SPIFFE IDs or prefixes that end in `/*`. Default: the delivered peers.json. */
  allowed?: readonly string[] | undefined;
  /** What happens past a CRL's nextUpdate: `refuse` new connections (default), or `allow` with the last known one. */
  staleCrl?: 'refuse' | 'allow' | undefined;
  /** Fetch the CRLs here too, every so many milliseconds; by default the agent's crl.pem is watched, nothing more. */
  fetchCrlEveryMs?: number | undefined;
  /** How often to look at the files where the system does not tell of changes. Default 1,000 ms. */
  pollMs?: number | undefined;
  /** Told of everything worth a log line. */
  onEvent?: ((event: VouchEvent) => void) | undefined;
  clock?: Clock | undefined;
}

/** What a service may want to log. */
export type VouchEvent =
  | { type: 'certificate'; serial: string; notAfter: string }
  | { type: 'crl' }
  /** A connection that was not let in. */
  | { type: 'refused'; reason: string; code: string }
  /** An open connection of this peer was cut: it is revoked or no longer allowed, or its certificate has ended. */
  | { type: 'cut'; peer: Peer }
  /** Delivered files that do not hold; what counted before goes on counting. */
  | { type: 'problem'; reason: string };

/** Whom an outgoing connection must reach: one SPIFFE ID, or one of a list. */
export type ServerChoice = { serverId: string } | { allowed: readonly string[] };

/**
 * Opens the delivered identity and keeps it current. Rejects with `config-state` where nothing was delivered and with
 * `config-invalid` for a list that is no list of SPIFFE IDs.
 */
export async function openVouch(options: VouchOptions = {}): Promise<Vouch> {
  const dir = options.dir ?? process.env.VOUCH_DIR;
  if (dir === undefined)
    throw new VouchError(
      'config-invalid',
      'say where the delivered files are: `dir`, or VOUCH_DIR as `vouch exec` sets it',
    );
  return new Vouch({ ...options, dir });
}

/** A service's identity: TLS options for both ends, and the checks that TLS itself does not make. */
export class Vouch {
  readonly #files: DeliveredTrust;
  readonly #connections = new Connections();
  readonly #servers = new Set<Server | HttpsServer>();
  readonly #clock: Clock;
  readonly #tell: (event: VouchEvent) => void;
  readonly #callers: AllowedPeers | undefined;
  readonly #stop: (() => void)[] = [];
  readonly #agents = new Map<string, OutgoingAgent>();

  constructor(options: VouchOptions & { dir: string }) {
    this.#clock = options.clock ?? systemClock;
    this.#tell = options.onEvent ?? (() => undefined);
    this.#callers = options.allowed === undefined ? undefined : parseAllowed(options.allowed);
    const problem = (error: unknown) => this.#tell({ type: 'problem', reason: textOf(error) });
    const files = new DeliveredTrust({ dir: options.dir, staleCrl: options.staleCrl ?? 'refuse', problem });
    this.#files = files;
    const folder = () => files.delivered.folder;
    this.#stop.push(
      watchDelivered({ dir: options.dir, folder, look: () => this.#look(), pollMs: options.pollMs ?? 1000 }),
    );
    if (options.fetchCrlEveryMs !== undefined)
      this.#stop.push(
        startCrlFetch({ files, everyMs: options.fetchCrlEveryMs, taken: () => this.#crlTaken(), problem }),
      );
  }

  /** Our own SPIFFE ID. */
  get spiffeId(): SpiffeId {
    return this.#files.delivered.spiffeId;
  }

  /** For `https.createServer` or `tls.createServer`; hand the server to `secure` as well. */
  serverOptions(): TlsOptions & { requestCert: true; rejectUnauthorized: true } {
    return { ...this.#ownOptions(), requestCert: true, rejectUnauthorized: true };
  }

  /**
   * For `https.request` (by its `agent`, which keeps connections alive and takes each new certificate by itself) or
   * for `tls.connect` (take them anew for each connection, and hand the socket to `secure`). The server's host name
   * does not count, its SPIFFE ID does.
   */
  clientOptions(choice: ServerChoice): ConnectionOptions & { rejectUnauthorized: true; agent: Agent } {
    const allowed = parseAllowed('serverId' in choice ? [choice.serverId] : choice.allowed);
    return { ...this.#outgoing(allowed), agent: this.#agentFor(allowed) };
  }

  /**
   * A server: every connection is checked before anyone else sees it, resumed sessions too, and cut when its peer is
   * revoked or has let its certificate end; new certificates are taken without a dropped handshake. A client's socket:
   * the same for that one.
   */
  secure<T extends Server | HttpsServer | TLSSocket>(end: T, choice?: ServerChoice): T {
    if (end instanceof TLSSocket) {
      if (choice === undefined)
        throw new VouchError('config-invalid', 'name the server this socket must reach');
      this.#watchOutgoing(end, parseAllowed('serverId' in choice ? [choice.serverId] : choice.allowed));
      return end;
    }
    const server: Server | HttpsServer = end;
    this.#servers.add(server);
    server.once('close', () => this.#servers.delete(server));
    server.prependListener('secureConnection', (socket: TLSSocket) =>
      this.#admit(socket, () => this.#allowedCallers()),
    );
    return end;
  }

  /** Who is at the other end of a connection that was let in and is open: of HTTP/1, HTTP/2 or TLS alone. */
  peerOf(socket: unknown): Peer | undefined {
    return this.#connections.peerOf(socket);
  }

  /**
   * Stops watching. Servers and open connections stay; nobody cuts them any more. Outgoing ones are closed when they are
   * idle, which is after their answer.
   */
  close(): void {
    for (const agent of this.#agents.values()) agent.close();
    for (const stop of this.#stop.splice(0)) stop();
  }

  #ownOptions() {
    const { chainPem, keyPem, bundlePem } = this.#files.delivered;
    return {
      cert: chainPem,
      key: keyPem,
      ca: bundlePem,
      minVersion: 'TLSv1.3' as const,
      // A session resumed by ticket shows no certificate and is `authorized` all the same.
      secureOptions: constants.SSL_OP_NO_TICKET,
    };
  }

  #agentFor(allowed: AllowedPeers): OutgoingAgent {
    const name = allowed.patterns.join(' ');
    const known = this.#agents.get(name);
    if (known !== undefined) return known;
    const agent = new OutgoingAgent({
      tlsOptions: () => this.#outgoing(allowed),
      watch: (socket) => this.#watchOutgoing(socket, allowed),
      isGood: (socket) => this.#clock.now() <= (this.#connections.peerOf(socket)?.notAfterMs ?? 0),
    });
    this.#agents.set(name, agent);
    return agent;
  }

  #outgoing(allowed: AllowedPeers) {
    return {
      ...this.#ownOptions(),
      rejectUnauthorized: true as const,
      checkServerIdentity: (_host: string, certificate: { raw?: Buffer }): Error | undefined => {
        try {
          this.#check(certificate.raw, allowed);
          return undefined;
        } catch (error) {
          return error instanceof Error ? error : new Error('refused');
        }
      },
    };
  }

  #watchOutgoing(socket: TLSSocket, allowed: AllowedPeers): void {
    // TLSSocket emits `secureConnect` after Node's own checks; first in line, before a byte is handed to anyone.
    if (socket.authorized) this.#admit(socket, () => allowed);
    else socket.prependOnceListener('secureConnect', () => this.#admit(socket, () => allowed));
  }

  #admit(socket: TLSSocket, allowed: () => AllowedPeers): void {
    try {
      if (!socket.authorized) throw new VouchError('denied-certificate', 'the peer is not authorized by TLS');
      const peer = this.#check(socket.getPeerX509Certificate()?.raw, allowed());
      this.#connections.add(socket, { peer, allowed });
    } catch (error) {
      this.#tell({
        type: 'refused',
        reason: textOf(error),
        code: error instanceof VouchError ? error.code : 'internal',
      });
      socket.destroy(error instanceof Error ? error : undefined);
    }
  }

  #check(leafDer: Buffer | undefined, allowed: AllowedPeers): Peer {
    if (leafDer === undefined) throw new VouchError('denied-certificate', 'the peer showed no certificate');
    return checkPeer(leafDer, this.#trust(), allowed, this.#clock.now());
  }

  #trust(): Trust {
    return this.#files.trust;
  }

  #allowedCallers(): AllowedPeers {
    return this.#callers ?? this.#files.delivered.allowedClients;
  }

  #crlTaken(): void {
    this.#tell({ type: 'crl' });
    this.#sweep();
  }

  /** Also where nothing changed: certificates end by themselves. */
  #look(): void {
    const changes = this.#files.reload();
    if (changes.certificate) this.#certificateChanged();
    if (changes.crl) this.#tell({ type: 'crl' });
    this.#sweep();
  }

  #certificateChanged(): void {
    for (const server of this.#servers) server.setSecureContext(this.#ownOptions());
    for (const agent of this.#agents.values()) agent.retire();
    const { serial, notAfterMs } = this.#files.delivered.leaf;
    this.#tell({ type: 'certificate', serial, notAfter: new Date(notAfterMs).toISOString() });
  }

  #sweep(): void {
    const trust = this.#trust();
    const nowMs = this.#clock.now();
    const cut = this.#connections.sweep(({ peer, allowed }) => mayStay(peer, trust, allowed(), nowMs));
    for (const peer of cut) this.#tell({ type: 'cut', peer });
  }
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
