import type { Socket } from 'node:net';
import { ipBytes } from '../../x509/ip-address.ts';

/** How many may be at it at once. */
export interface HandshakeLimits {
  handshakes: number;
  handshakesPerSource: number;
}

/**
 * Connections whose peer has not yet proved who it is. There is always room for one more: where a source or all
 * together have too many, their oldest is cut. A good peer needs milliseconds; who holds connections open loses them.
 */
export class Handshakes {
  readonly #limits: HandshakeLimits;
  readonly #overflowed: (source: string) => void;
  /** Both by age. */
  readonly #all = new Map<string, Socket>();
  readonly #bySource = new Map<string, Map<string, Socket>>();

  constructor(limits: HandshakeLimits, overflowed: (source: string) => void) {
    this.#limits = limits;
    this.#overflowed = overflowed;
  }

  /** Keeps a connection until it has proved itself or closes. False where it is closed already. */
  add(socket: Socket): boolean {
    const { remoteAddress } = socket;
    if (remoteAddress === undefined) return false;
    const [name, source] = [nameOf(socket), sourceOf(remoteAddress)];
    const ofSource = this.#bySource.get(source) ?? new Map<string, Socket>();
    this.#bySource.set(source, ofSource.set(name, socket));
    this.#all.set(name, socket);
    socket.once('close', () => this.#remove(name, source, socket));
    this.#cutOldest(ofSource, this.#limits.handshakesPerSource);
    this.#cutOldest(this.#all, this.#limits.handshakes);
    return true;
  }

  /** The connection below a TLS socket that is done with its handshake; undefined where it has been cut. */
  done(secured: Socket): Socket | undefined {
    const name = nameOf(secured);
    const socket = this.#all.get(name);
    if (socket !== undefined) this.#remove(name, sourceOf(secured.remoteAddress ?? ''), socket);
    return socket;
  }

  close(): void {
    for (const socket of this.#all.values()) socket.destroy();
  }

  #cutOldest(sockets: ReadonlyMap<string, Socket>, most: number): void {
    if (sockets.size <= most) return;
    const [name, socket] = sockets.entries().next().value ?? [];
    if (name === undefined || socket === undefined) return;
    const { remoteAddress = '' } = socket;
    this.#remove(name, sourceOf(remoteAddress), socket);
    socket.destroy();
    this.#overflowed(remoteAddress);
  }

  /** Ports are used again: another connection may have this name by now. */
  #remove(name: string, source: string, socket: Socket): void {
    if (this.#all.get(name) !== socket) return;
    this.#all.delete(name);
    const ofSource = this.#bySource.get(source);
    ofSource?.delete(name);
    if (ofSource?.size === 0) this.#bySource.delete(source);
  }
}

/** What tells the open connections of one listener apart. */
function nameOf({ remoteAddress, remotePort }: Socket): string {
  return `${remoteAddress} ${remotePort}`;
}

/** An IPv4 address, also where it is mapped into IPv6, or the /64 of an IPv6 address, which one customer has whole. */
function sourceOf(address: string): string {
  const plain = address.replace(/%.*$/, '');
  return plain.includes('.') ? plain : (ipBytes(plain)?.toString('hex', 0, 8) ?? plain);
}
