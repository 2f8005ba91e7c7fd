import { TLSSocket } from 'node:tls';
import type { AllowedPeers } from './allowed.ts';
import type { Peer } from './peer.ts';

/** A connection that was let in, and by which list. */
export interface Admitted {
  peer: Peer;
  allowed: () => AllowedPeers;
}

/** Stands on the socket itself: HTTP/2 hands out proxies of it, which are other objects but have its properties. */
const admission = Symbol('admission');

/** The open connections of admitted peers, so that those of one that may not stay can be cut. */
export class Connections {
  readonly #open = new Map<Admitted, TLSSocket>();

  /** Keeps `socket` until it closes. */
  add(socket: TLSSocket, admitted: Admitted): void {
    Object.assign(socket, { [admission]: admitted });
    this.#open.set(admitted, socket);
    socket.once('close', () => this.#open.delete(admitted));
  }

  /** Who is at the other end, or undefined for what is no socket, was not admitted here, or is closed. */
  peerOf(socket: unknown): Peer | undefined {
    const admitted = admissionOf(socket);
    return admitted !== undefined && this.#open.has(admitted) ? admitted.peer : undefined;
  }

  /** Destroys at once each connection that `keep` no longer holds good; returns whose they were. */
  sweep(keep: (admitted: Admitted) => boolean): Peer[] {
    const cut: Peer[] = [];
    for (const [admitted, socket] of this.#open) {
      if (keep(admitted)) continue;
      this.#open.delete(admitted);
      socket.destroy();
      cut.push(admitted.peer);
    }
    return cut;
  }

  get size(): number {
    return this.#open.size;
  }
}

function admissionOf(socket: unknown): Admitted | undefined {
  try {
    return socket instanceof TLSSocket ? (socket as { [admission]?: Admitted })[admission] : undefined;
  } catch {
    // HTTP/2's proxies throw once their session has ended.
    return undefined;
  }
}
