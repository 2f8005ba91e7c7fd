import { constants } from 'node:crypto';
import { chmodSync, existsSync, unlinkSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import type { ListenAddress } from '../config/config.ts';
import { VouchError } from '../core/errors.ts';
import { boundConnections } from './connection-bounds.ts';

/** Time-outs and bounds of every HTTP listener, against slow and greedy peers. */
const manners = {
  headersTimeout: 5_000,
  requestTimeout: 10_000,
  keepAliveTimeout: 30_000,
  maxRequestsPerSocket: 10_000,
  maxHeaderSize: 16 * 1024,
  connectionsCheckingInterval: 1_000,
} as const;
const handshakeTimeoutMs = 5_000;
/** Past it a peer that sends nothing is cut; one that reads nothing of its answer past twice that, as Node counts. */
const silenceMs = 10_000;
/** `sun_path` holds 108 bytes with its NUL (unix(7)). */
const socketPathMaxBytes = 107;

/** A server that listens, and how to end it. */
export interface Listener {
  server: http.Server | https.Server;
  /** The port it got; undefined for a unix socket. */
  port: number | undefined;
  /** Stops accepting, lets requests in progress end, and cuts what is left after `graceMs`. */
  close(graceMs: number): Promise<void>;
}

/** What the TLS listener shows and trusts. */
export interface TlsIdentity {
  certificatePem: string;
  keyPem: string;
  /** The only roots that a client certificate may chain to; never the system's. */
  rootsPem: string;
}

/** Plain HTTP on an address. */
export function listenHttp(handler: http.RequestListener, address: ListenAddress): Promise<Listener> {
  return listen(bounded(http.createServer(manners, handler)), address);
}

/**
 * TLS 1.3 only; without an identity every handshake is refused until `replaceIdentity`. Client certificates are asked
 * for, and checked by each route that needs one (I7); no session tickets, so that a resumed session cannot get around a
 * revocation.
 */
export async function listenTls(
  handler: http.RequestListener,
  address: ListenAddress,
  identity: TlsIdentity | undefined,
): Promise<Listener> {
  const server = https.createServer(
    { ...manners, ...tlsOptions(identity), handshakeTimeout: handshakeTimeoutMs },
    handler,
  );
  server.on('tlsClientError', (_error, socket) => socket.destroy());
  return listen(bounded(server), address);
}

/** Shows a new certificate from the next connection on. */
export function replaceIdentity(listener: Listener, identity: TlsIdentity): void {
  if (listener.server instanceof https.Server) listener.server.setSecureContext(tlsOptions(identity));
}

/** HTTP on a unix socket that only its owner may open. A dead socket file is replaced, a live one is not. */
export async function listenUnix(handler: http.RequestListener, path: string): Promise<Listener> {
  if (Buffer.byteLength(path) > socketPathMaxBytes)
    throw new VouchError(
      'config-state',
      `the socket path is longer than ${socketPathMaxBytes} bytes: use a shorter state directory than ${path}`,
    );
  if (existsSync(path)) {
    if (await answers(path)) throw new VouchError('config-in-use', `another server answers at ${path}`);
    unlinkSync(path);
  }
  const before = process.umask(0o177);
  try {
    const server = http.createServer({ ...manners, requestTimeout: 0 }, handler);
    const listener = await listen(server, { path });
    chmodSync(path, 0o600);
    return listener;
  } finally {
    process.umask(before);
  }
}

function tlsOptions(identity: TlsIdentity | undefined): https.ServerOptions {
  return {
    ...(identity && { cert: identity.certificatePem, key: identity.keyPem, ca: identity.rootsPem }),
    minVersion: 'TLSv1.3',
    requestCert: true,
    // First enrollments have no certificate; the routes that need one ask `authorized` and the store.
    rejectUnauthorized: false,
    secureOptions: constants.SSL_OP_NO_TICKET,
    honorCipherOrder: true,
    ALPNProtocols: ['http/1.1'],
  };
}

/** Against strangers: what any of them may hold, and for how long. */
function bounded<S extends http.Server | https.Server>(server: S): S {
  boundConnections(server);
  server.timeout = silenceMs;
  server.on('clientError', (_error, socket) => socket.destroy());
  return server;
}

function listen(server: http.Server | https.Server, where: net.ListenOptions): Promise<Listener> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(listenFailure(where, error)));
    server.listen(where, () => {
      const address = server.address();
      resolve({
        server,
        port: typeof address === 'object' && address ? address.port : undefined,
        close: (graceMs) => close(server, graceMs),
      });
    });
  });
}

function listenFailure(where: net.ListenOptions, error: NodeJS.ErrnoException): VouchError {
  const place = where.path ?? `${where.host}:${where.port}`;
  const reason = listenReasons[error.code ?? ''] ?? error.code ?? 'unknown error';
  return new VouchError('config-invalid', `cannot listen on ${place}: ${reason}`, { cause: error });
}

const listenReasons: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the port is in use; stop who listens there, or configure another',
  EADDRNOTAVAIL: 'this machine does not have that address; configure one that it has',
  EACCES: 'this user may not listen there; configure a port above 1023, or allow it',
};

async function close(server: http.Server | https.Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  server.closeIdleConnections();
  const timer = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearTimeout(timer);
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = net.connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}
