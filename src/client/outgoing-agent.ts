import { Agent, type RequestOptions } from 'node:https';
import type { Duplex } from 'node:stream';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';

/**
 * An https.Agent whose connections carry the certificate of the moment and are watched like incoming ones. It offers
 * no session for resumption: Node does not ask `checkServerIdentity` on a resumed one.
 */
export class OutgoingAgent extends Agent {
  readonly #tlsOptions: () => ConnectionOptions;
  readonly #watch: (socket: TLSSocket) => void;

  constructor(tlsOptions: () => ConnectionOptions, watch: (socket: TLSSocket) => void) {
    super({ keepAlive: true, maxCachedSessions: 0 });
    this.#tlsOptions = tlsOptions;
    this.#watch = watch;
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
    const socket = connect({ ...rest, ...this.#tlsOptions() });
    this.#watch(socket);
    return socket;
  }
}
