import type { TLSSocket } from 'node:tls';
import type { AllowedPeers } from './allowed.ts';
import type { Peer } from './peer.ts';

/** A connection that was let in, and by which list. */
export interface Admitted {
  peer: Peer;
  allowed: () => AllowedPeers;
}

/** The open connections of admitted peers, so that those of one that is revoked can be cut. */
export class Connections {
  readonly #open = new Map<TLSSocket, Admitted>();

  /** Keeps `socket` until it closes. */
  add(socket: TLSSocket, admitted: Admitted): void {
    this.#open.set(socket, admitted);
    socket.once('close', () => this.#open.delete(socket));
  }

  /** Who is at the other end, or undefined for a socket that was not admitted or is closed. */
  peerOf(socket: TLSSocket): Peer | undefined {
    return this.#open.get(socket)?.peer;
  }

  /** Destroys at once each connection that `keep` no longer holds good; returns whose they were. */
  sweep(keep: (admitted: Admitted) => boolean): Peer[] {
    const cut: Peer[] = [];
    for (const [socket, admitted] of this.#open) {
      if (keep(admitted)) continue;
      this.#open.delete(socket);
      socket.destroy();
      cut.push(admitted.peer);
    }
    return cut;
  }

  get size(): number {
    return this.#open.size;
  }
}
