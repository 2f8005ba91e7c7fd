import type { Duplex } from 'node:stream';
import { connectServer, type ConnectionParts } from '../connection.ts';
import type { Held } from '../held.ts';

// An ESM import of node:http runs its lazy getters, undici among them: 20 ms of an agent's start.
const http = process.getBuiltinModule('node:http');

/** What is asked together goes over one connection; a fleet keeps none open for nothing. */
const idleMs = 5000;

/**
 * Connections to the server by one identity, each verified as `connectServer` does before anything is written. One that
 * lies idle is used again; none serves another identity.
 */
export class ServerLink extends http.Agent {
  readonly held: Held;
  readonly #parts: ConnectionParts;

  constructor(held: Held, parts: ConnectionParts) {
    super({ keepAlive: true, maxFreeSockets: 1, timeout: idleMs });
    this.held = held;
    this.#parts = parts;
  }

  /** Called by Node where it has no idle one. */
  createConnection(_options: object, done: (error: Error | null, socket?: Duplex) => void): void {
    void this.#connect(done);
  }

  async #connect(done: (error: Error | null, socket?: Duplex) => void): Promise<void> {
    const { state, delivered } = this.held;
    const client = { cert: delivered.chainPem, key: delivered.keyPem };
    let socket: Duplex;
    try {
      socket = await connectServer(state, state.root, this.#parts, client);
    } catch (error) {
      done(error as Error);
      return;
    }
    done(null, socket);
  }

  /** Another identity has come: what is idle is closed, what is in use when it is done. */
  retire(): void {
    this.maxFreeSockets = 0;
    for (const sockets of Object.values(this.freeSockets))
      for (const socket of sockets ?? []) socket.destroy();
  }
}
