import { constants } from 'node:crypto';
import { createServer, isIP, type Server, type Socket } from 'node:net';
import { connect, createServer as createTlsServer, type Server as TlsServer, type TLSSocket } from 'node:tls';
import { type AllowedPeers, parseAllowed } from '../../client/allowed.ts';
import { checkPeer, mayStay, type Peer } from '../../client/peer.ts';
import { addressText, type ProxyAddress, type ProxySettings } from '../../config/proxy-config.ts';
import type { Clock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { Handshakes } from './handshakes.ts';
import type { ProxyIdentity } from './identity.ts';
import { Journal, type ProxyCounts } from './journal.ts';
import { type Ends, Link } from './link.ts';
import { connectTo, listenAt } from './place.ts';
import { proxyHeader } from './proxy-protocol.ts';

/** What a proxy is given besides its settings. */
export interface ProxyParts {
  clock: Clock;
  /** Takes a line for the log. */
  notice: (line: string) => void;
}

/** A proxied connection; `peer` is undefined while a way out is being dialled. */
interface Open {
  link: Link;
  peer: Peer | undefined;
}

const nobody = parseAllowed([]);
/** How soon a certificate's end cuts its connections. */
const lookEveryMs = 1000;

/**
 * One proxy: an mTLS way into a plain local port, or out of one. Who is at the other end is checked as `vouch/client` does
 * it, at the handshake and again at each `take`: revoked, no longer allowed, or past the end of either certificate, it
 * is cut. Without an identity nobody is let through.
 */
export class MtlsProxy {
  readonly #settings: ProxySettings;
  readonly #clock: Clock;
  readonly #journal: Journal;
  readonly #listed: AllowedPeers | undefined;
  readonly #open = new Set<Open>();
  readonly #handshakes: Handshakes;
  readonly #tls: TlsServer;
  readonly #listener: Server;
  #identity: ProxyIdentity | undefined;
  #timer: NodeJS.Timeout | undefined;
  #listening: ProxyAddress;
  #drained = (): void => undefined;

  constructor(settings: ProxySettings, { clock, notice }: ProxyParts) {
    this.#settings = settings;
    this.#clock = clock;
    this.#listening = settings.listen;
    this.#journal = new Journal(clock, (line) => notice(`proxy ${addressText(this.#listening)}: ${line}`));
    const listed = settings.expect ?? settings.allow;
    this.#listed = listed && parseAllowed(listed);
    this.#handshakes = new Handshakes(settings.limits, (source) =>
      this.#journal.tell(
        'overLimit',
        `too many unfinished handshakes; cut the oldest, of ${source}`,
        'handshakes',
      ),
    );
    this.#tls = this.#tlsServer();
    const isWayIn = settings.expect === undefined;
    const took = isWayIn ? this.#takeSecure : this.#takePlain;
    // TLS ends with its caller until the handshake is done: who leaves before must not keep a place.
    this.#listener = createServer({ allowHalfOpen: !isWayIn, noDelay: true }, (socket) =>
      took.call(this, socket),
    );
  }

  /** Where it listens. */
  get listening(): ProxyAddress {
    return this.#listening;
  }

  get counts(): Readonly<ProxyCounts> & { open: number } {
    return { ...this.#journal.counts, open: this.#open.size };
  }

  /** Rejects with `config-invalid` or `config-in-use`. */
  async listen(): Promise<void> {
    this.#listening = await listenAt(this.#listener, this.#settings.listen, this.#settings.socketMode);
    // Out of descriptors: who connects next may find one.
    this.#listener.on('error', (error) => this.#journal.tell('overLimit', error.message, 'accept'));
    this.#timer = setInterval(() => {
      this.#sweep();
      this.#journal.look();
    }, lookEveryMs).unref();
  }

  /** What counts from now on; undefined where there is none any more. Throws where the certificate cannot be used, and goes on as before. */
  take(identity: ProxyIdentity | undefined): void {
    if (identity !== undefined && identity.tls !== this.#identity?.tls)
      this.#tls.setSecureContext(tlsOptions(identity));
    this.#identity = identity;
    this.#sweep();
  }

  /** Takes no more connections, and cuts those that are open still after `graceMs`. */
  async close(graceMs = 0): Promise<void> {
    this.#listener.close();
    this.#handshakes.close();
    if (this.#open.size > 0) {
      const drained = new Promise<void>((resolve) => {
        this.#drained = resolve;
      });
      const timer = setTimeout(() => this.#cutAll(), graceMs);
      await drained;
      clearTimeout(timer);
    }
    clearInterval(this.#timer);
  }

  #tlsServer(): TlsServer {
    const { limits, alpn } = this.#settings;
    const server = createTlsServer({
      requestCert: true,
      // `#check` refuses who is not `authorized`: then who it was can be said, which Node keeps to itself.
      rejectUnauthorized: false,
      minVersion: 'TLSv1.3',
      // A session resumed by ticket shows no certificate and is `authorized` all the same.
      secureOptions: constants.SSL_OP_NO_TICKET,
      handshakeTimeout: limits.handshake * 1000,
      ...(alpn.length > 0 && { ALPNProtocols: alpn }),
    });
    server.on('tlsClientError', (error: NodeJS.ErrnoException, socket) => {
      const why = error.code ?? error.message;
      this.#journal.tell(
        'handshakesFailed',
        `no handshake with ${socket.remoteAddress ?? 'a caller'}: ${why}`,
      );
      socket.destroy();
    });
    server.on('secureConnection', (secure) => this.#secured(secure));
    return server;
  }

  /** A caller from the network. */
  #takeSecure(carrier: Socket): void {
    carrier.on('error', () => undefined);
    if (this.#identity === undefined) {
      this.#journal.tell('unreachable', 'nobody is let in: there is no valid certificate', 'identity');
      carrier.destroy();
    } else if (this.#handshakes.add(carrier)) this.#tls.emit('connection', carrier);
  }

  #secured(secure: TLSSocket): void {
    secure.on('error', () => undefined);
    const carrier = this.#handshakes.done(secure);
    if (carrier === undefined) {
      secure.destroy();
      return;
    }
    const from = secure.remoteAddress ?? 'a caller';
    const peer = this.#check(secure, from);
    if (peer === undefined || !this.#hasRoom(peer.spiffeId)) {
      secure.destroySoon();
      return;
    }
    const { to, proxyProtocol } = this.#settings;
    const { remoteAddress = '', remotePort = 0, localAddress = '', localPort = 0 } = carrier;
    const { spiffeId } = peer;
    const plain = connectTo(to, { allowHalfOpen: true });
    const open = this.#enter({ secure, carrier, plain }, peer);
    this.#within(plain, () => plain.destroy());
    plain.once('error', (error: NodeJS.ErrnoException) => this.#failed(open, error));
    plain.once('connect', () => {
      if (proxyProtocol !== false)
        plain.write(
          proxyHeader(proxyProtocol, { spiffeId, remoteAddress, remotePort, localAddress, localPort }),
        );
      this.#join(open, `${spiffeId} from ${from}`);
    });
  }

  /** A local program that wants out. */
  #takePlain(plain: Socket): void {
    plain.on('error', () => undefined);
    const { to, alpn } = this.#settings;
    const identity = this.#identity;
    if (identity === undefined)
      this.#journal.tell('unreachable', 'nobody gets through: there is no valid certificate', 'identity');
    if (identity === undefined || !this.#hasRoom('this machine')) {
      plain.resetAndDestroy();
      return;
    }
    const place = addressText(to);
    const carrier = connectTo(to, { allowHalfOpen: false });
    const secure = connect({
      ...tlsOptions(identity),
      socket: carrier,
      rejectUnauthorized: true,
      checkServerIdentity: () => undefined,
      ...('host' in to && isIP(to.host) === 0 && { servername: to.host }),
      ...(alpn.length > 0 && { ALPNProtocols: alpn }),
    });
    const open = this.#enter({ secure, carrier, plain }, undefined);
    this.#within(secure, () => open.link.cut());
    secure.once('error', (error: NodeJS.ErrnoException) => this.#failed(open, error));
    secure.once('secureConnect', () => {
      open.peer = this.#check(secure, place);
      if (open.peer === undefined) open.link.cut();
      else this.#join(open, `${open.peer.spiffeId} at ${place}`);
    });
  }

  /** Who it is, if it may be here; says why not. */
  #check(secure: TLSSocket, place: string): Peer | undefined {
    const identity = this.#identity;
    try {
      const leaf = secure.getPeerX509Certificate()?.raw;
      if (leaf === undefined) throw new VouchError('denied-certificate', 'it shows no certificate');
      if (identity === undefined || !secure.authorized)
        throw new VouchError(
          'denied-certificate',
          `its certificate does not hold: ${secure.authorizationError}`,
        );
      const peer = checkPeer(leaf, identity.trust, this.#allowed(), this.#clock.now());
      // A connection ends with the certificates that it was made with.
      return { ...peer, notAfterMs: Math.min(peer.notAfterMs, identity.notAfterMs) };
    } catch (error) {
      const [code, why] =
        error instanceof VouchError ? [error.code, error.detail] : ['internal', String(error)];
      this.#journal.tell('refused', `refused ${place}: ${why} [${code}]`, code);
      return undefined;
    }
  }

  #allowed(): AllowedPeers {
    return this.#listed ?? this.#identity?.allowedClients ?? nobody;
  }

  #hasRoom(who: string): boolean {
    const most = this.#settings.limits.connections;
    if (this.#open.size < most) return true;
    this.#journal.tell('overLimit', `refused ${who}: there are ${most} connections already`, 'connections');
    return false;
  }

  #enter(ends: Ends, peer: Peer | undefined): Open {
    const { idle, halfClosed } = this.#settings.limits;
    const limits = { idleMs: idle === undefined ? undefined : idle * 1000, halfClosedMs: halfClosed * 1000 };
    const link = new Link(ends, limits, () => {
      this.#open.delete(open);
      if (this.#open.size === 0) this.#drained();
    });
    const open: Open = { link, peer };
    this.#open.add(open);
    return open;
  }

  #join({ link }: Open, who: string): void {
    this.#journal.counts.passed += 1;
    link.join(() => this.#journal.tell('idle', `cut ${who}: silent for too long`));
  }

  /** Calls `late` where the far side is not there in time. */
  #within(far: Socket | TLSSocket, late: () => void): void {
    const seconds = this.#settings.limits.connect;
    const timer = setTimeout(() => {
      this.#unreachable(`no answer within ${seconds} s`, 'timeout');
      late();
    }, seconds * 1000);
    const done = () => clearTimeout(timer);
    far.once('close', done).once('encrypted' in far ? 'secureConnect' : 'connect', done);
  }

  /** A failure before bytes passed; a later one is the peers' own affair. */
  #failed({ link }: Open, error: NodeJS.ErrnoException): void {
    if (link.isJoined) return;
    const { secure } = link.ends;
    const why = error.code ?? error.message;
    if (
      this.#settings.expect !== undefined &&
      !secure.connecting &&
      !secure.authorized &&
      secure.authorizationError
    )
      this.#journal.tell('refused', `refused ${addressText(this.#settings.to)}: ${why}`);
    else this.#unreachable(why, error.code);
  }

  #unreachable(why: string, code = ''): void {
    this.#journal.tell('unreachable', `cannot reach ${addressText(this.#settings.to)}: ${why}`, code);
  }

  #sweep(): void {
    const identity = this.#identity;
    const [allowed, nowMs] = [this.#allowed(), this.#clock.now()];
    for (const { link, peer } of this.#open) {
      if (peer === undefined) continue;
      if (identity !== undefined && mayStay(peer, identity.trust, allowed, nowMs)) continue;
      link.cut();
      this.#journal.tell(
        'cut',
        `cut ${peer.spiffeId}, serial ${peer.serial}: revoked, no longer allowed, or expired`,
      );
    }
  }

  #cutAll(): void {
    for (const { link } of this.#open) link.cut();
  }
}

function tlsOptions({ tls }: ProxyIdentity) {
  return { ...tls, minVersion: 'TLSv1.3' as const, secureOptions: constants.SSL_OP_NO_TICKET };
}
