import { isIP } from 'node:net';
import type { ConnectionOptions, DetailedPeerCertificate, PeerCertificate, TLSSocket } from 'node:tls';
import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { parseSpiffeId, serverSpiffeId, type TrustDomain } from '../core/spiffe-id.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/certificate.ts';
import { ipBytes } from '../x509/ip-address.ts';
import { validatePath } from '../x509/path.ts';
import { encodePem } from '../x509/pem.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { connectionFailure } from './tls-failure.ts';

// An ESM import of node:tls runs its lazy getters, which parse every public root: 6 ms of an agent's start.
const tls = process.getBuiltinModule('node:tls');

/** Longest chain that is looked at. */
const maxChain = 8;
const handshakeTimeoutMs = 5000;

/** The server as the agent knows it before it trusts anybody. */
export interface ServerAddress {
  /** `https://host:port`. */
  server: string;
  trustDomain: TrustDomain;
  /** `sha256:<hex of SHA-256 of the root's SubjectPublicKeyInfo>`. */
  pin: string;
}

/** What connections are made with. */
export interface ConnectionParts {
  clock: Clock;
  signal: AbortSignal;
}

/**
 * The first of the two connections (I9): nothing is sent, nothing is believed. Of the certificates in the handshake the
 * self-signed one whose key hash is the pin is the root. Returns its DER; throws `denied-server` where there is none.
 */
export async function learnRoot(
  address: Pick<ServerAddress, 'server' | 'pin'>,
  parts: ConnectionParts,
): Promise<Buffer> {
  // The only connection that does not verify: what it learns is checked against the pin, and it carries no byte of ours.
  // Without CAs of its own it would parse every public root.
  const socket = await open(address.server, { ca: [], rejectUnauthorized: false }, parts);
  const chain = chainOf(socket.getPeerCertificate(true));
  socket.destroySoon();
  const root = chain.find((der) => isPinned(der, address.pin));
  if (root === undefined)
    throw new VouchError(
      'denied-server',
      `${address.server} does not show the root that the pin names: it is another authority, or somebody in between. No secret was sent`,
    );
  return root;
}

/** True for a self-signed certificate whose SubjectPublicKeyInfo hashes to `pin`; what cannot be read is not. */
export function isPinned(der: Buffer, pin: string): boolean {
  try {
    const certificate = parseCertificate(der);
    return (
      certificate.subjectName.equals(certificate.issuerName) &&
      `sha256:${importPublicKey(certificate.spki).sha256}` === pin
    );
  } catch {
    return false;
  }
}

/**
 * The second connection: the root is its only CA, and the peer must be exactly the server's SPIFFE ID. Resolves before
 * anything is written. `client`: PEM chain and key for mTLS.
 */
export async function connectServer(
  address: ServerAddress,
  root: Buffer,
  parts: ConnectionParts,
  client?: { cert: string; key: string },
): Promise<TLSSocket> {
  const { hostname } = new URL(address.server);
  const checkServerIdentity = (_host: string, peer: PeerCertificate): Error | undefined => {
    try {
      assertServer(chainOf(peer as DetailedPeerCertificate), root, hostname, address, parts.clock.now());
      return undefined;
    } catch (error) {
      return notTheServer(error, address.server);
    }
  };
  const ca = encodePem('CERTIFICATE', root);
  return open(address.server, { ...client, ca, rejectUnauthorized: true, checkServerIdentity }, parts);
}

function assertServer(
  chain: readonly Buffer[],
  root: Buffer,
  hostname: string,
  address: ServerAddress,
  nowMs: number,
): void {
  const [leaf] = validatePath({ chain, roots: [root], nowMs, trustDomain: address.trustDomain });
  if (leaf === undefined) throw new VouchError('denied-server', `${address.server} showed no certificate`);
  const spiffeId = parseSpiffeId(leaf.uris[0] ?? '');
  if (__VOUCH_WITHOUT__ !== 'I9' && spiffeId !== serverSpiffeId(address.trustDomain))
    throw new VouchError(
      'denied-server',
      `${address.server} is ${spiffeId}, not ${serverSpiffeId(address.trustDomain)}: a workload poses as the server. No secret was sent`,
    );
  if (!isNamed(leaf, hostname))
    throw new VouchError(
      'denied-server',
      `the certificate of ${address.server} is for ${[...leaf.dnsNames, ...leaf.ipAddresses].join(', ') || 'no host'}: use a URL with one of those`,
    );
}

function notTheServer(error: unknown, server: string): Error {
  if (error instanceof VouchError && error.code === 'denied-server') return error;
  const why = error instanceof Error ? error.message : String(error);
  return new VouchError('denied-server', `the certificate of ${server} does not hold: ${why}`, {
    cause: error,
  });
}

function isNamed(leaf: ParsedCertificate, hostname: string): boolean {
  const host = hostname.replace(/^\[|\]$/g, '');
  const wanted = ipBytes(host);
  if (wanted === undefined) return leaf.dnsNames.includes(host.toLowerCase());
  return leaf.ipAddresses.some((address) => ipBytes(address)?.equals(wanted));
}

async function open(server: string, options: ConnectionOptions, parts: ConnectionParts): Promise<TLSSocket> {
  const url = new URL(server);
  const host = url.hostname.replace(/^\[|\]$/g, '');
  const { promise, resolve, reject } = Promise.withResolvers<TLSSocket>();
  const socket = tls.connect({
    ...options,
    host,
    port: Number(url.port || 443),
    ...(isIP(host) === 0 ? { servername: host } : {}),
    minVersion: 'TLSv1.3',
    ALPNProtocols: ['http/1.1'],
  });
  const abort = (): void =>
    void socket.destroy(new VouchError('unavailable-server', `${server} was given up`));
  const timer = setTimeout(() => {
    socket.destroy(
      new VouchError('unavailable-server', `${server} did not answer within ${handshakeTimeoutMs / 1000} s`),
    );
  }, handshakeTimeoutMs);
  parts.signal.addEventListener('abort', abort);
  socket.once('secureConnect', () => resolve(socket));
  socket.once('error', reject);
  socket.once('close', () => reject(Object.assign(new Error('closed'), { code: 'ECONNRESET' })));
  try {
    return await promise;
  } catch (error) {
    socket.destroy();
    throw connectionFailure(error, server, { clock: parts.clock, verified: false });
  } finally {
    clearTimeout(timer);
    parts.signal.removeEventListener('abort', abort);
    // From here on whoever uses the socket listens; a late error must not crash the process.
    socket.on('error', () => undefined);
  }
}

function chainOf(peer: DetailedPeerCertificate | undefined): Buffer[] {
  const chain: Buffer[] = [];
  for (let at = peer; at?.raw !== undefined && chain.length < maxChain; at = at.issuerCertificate) {
    if (chain.some((der) => der.equals(at.raw))) break;
    chain.push(at.raw);
  }
  return chain;
}
