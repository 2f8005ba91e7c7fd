import { Agent, type RequestOptions } from 'node:https';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';

// http.Agent documents it, the declarations of its types lack it.
const parent = Agent.prototype as Agent & { keepSocketAlive(socket: Duplex): boolean };

/** What an agent asks of its owner. */
export interface OutgoingAgentParts {
  /** What new connections are made with. */
  tlsOptions: () => ConnectionOptions;
  /** Checks a connection when it stands, and later on. */
  watch: (socket: TLSSocket) => void;
  /** Whether another request may go over a connection that has done one. */
  isGood: (socket: TLSSocket) => boolean;
}

/**
 * An https.Agent whose connections carry the certificate of the moment and are watched like incoming ones. It offers
 * no session for resumption: Node does not ask `checkServerIdentity` on a resumed one.
 */
export class OutgoingAgent extends Agent {
  readonly #parts: OutgoingAgentParts;
  #current = new WeakSet<Duplex>();

  constructor(parts: OutgoingAgentParts) {
    super({ keepAlive: true, maxCachedSessions: 0 });
    this.#parts = parts;
  }

  /**
   * After a renewal: idle connections are closed, those in use when their answer has come. The other side would cut them
   * in the middle of a later request, at the end of the certificate that they were made with.
   */
  retire(): void {
    this.#current = new WeakSet();
    for (const socket of Object.values(this.freeSockets).flat()) socket?.destroy();
  }

  /** Closes idle connections, and those in use when their answer has come; from now on none is kept. */
  close(): void {
    this.maxFreeSockets = 0;
    this.retire();
  }

  /**
   * Called by http.Agent to find an idle connection for a request. Where it goes is all that tells ours apart, since
   * what a request brings for TLS does not count: by Node's own name, our `checkServerIdentity` in the options of each
   * request would make each a stranger to the connections of the others.
   */
  getName({ host, port, localAddress, family, socketPath, servername }: RequestOptions = {}): string {
    return JSON.stringify([host, port, localAddress, family, socketPath, servername]);
  }

  /** Called by http.Agent for each new connection. */
  createConnection(options: ConnectionOptions): Duplex {
    const { session: _never, ...rest } = options;
    const socket = connect({ ...rest, ...this.#parts.tlsOptions() });
    this.#current.add(socket);
    this.#parts.watch(socket);
    return socket;
  }

  /** Called by http.Agent when a request is done with its connection. */
  keepSocketAlive(socket: TLSSocket): boolean {
    return (
      this.#current.has(socket) && this.#parts.isGood(socket) && parent.keepSocketAlive.call(this, socket)
    );
  }
}
