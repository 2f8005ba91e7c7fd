import type { Socket } from 'node:net';
import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import { Budgets, connectionBounds, Rate } from './budget.ts';
import { Connection } from './connection.ts';
import { KeptSocket } from './kept-socket.ts';
import type { Method } from './method.ts';

export { frame } from './frame.ts';
export type { Call, Method, Opened, Out } from './method.ts';
export { GrpcError, GrpcStatus } from './status.ts';

interface Options {
  /** Absolute path. */
  socket: string;
  mode: number;
  /** By path: `/Service/Method`. */
  methods: ReadonlyMap<string, Method>;
  /** Throws for whom it does not know, who is cut. */
  peerOf(socket: Socket): WorkloadPeer;
  /** A line for the agent's log. */
  notice(line: string): void;
  bounds?: ReturnType<typeof connectionBounds>;
  /** `problem` is another. */
  problemChanged?: () => void;
  /** How often it is looked whether the socket's file is there. */
  lookEveryMs?: number;
}

/** gRPC over HTTP/2 with prior knowledge on a unix socket. Throws `config-in-use` and `config-invalid`. */
export async function serveGrpc(options: Options): Promise<GrpcServer> {
  const server = new GrpcServer(options);
  await server.listen();
  return server;
}

/** What listens. */
export class GrpcServer {
  readonly #options: Options;
  readonly #bounds: ReturnType<typeof connectionBounds>;
  readonly #budgets = new Budgets();
  readonly #connections = new Set<Connection>();
  readonly #notice: (line: string) => void;
  readonly #socket: KeptSocket;

  constructor(options: Options) {
    this.#options = options;
    this.#bounds = options.bounds ?? connectionBounds();
    // What strangers can cause again and again must not fill the log.
    const lines = new Rate(20, 60_000);
    this.#notice = (line) => {
      if (lines.take(performance.now())) options.notice(line);
    };
    const { socket: path, mode, notice, problemChanged: changed, lookEveryMs } = options;
    const accept = (socket: Socket): void => this.#accept(socket);
    this.#socket = new KeptSocket({ path, mode, accept, notice, changed, lookEveryMs });
  }

  /** Why nobody can connect. */
  get problem(): string | undefined {
    return this.#socket.problem;
  }

  get connections(): number {
    return this.#connections.size;
  }

  get streams(): number {
    let streams = 0;
    for (const connection of this.#connections) streams += connection.exchanges.size;
    return streams;
  }

  listen(): Promise<void> {
    return this.#socket.open();
  }

  /** Accepts nobody, ends the streams, lets calls finish for `graceMs`, then cuts. */
  async close(graceMs: number): Promise<void> {
    await this.#socket.close();
    const connections = [...this.#connections];
    for (const connection of connections) connection.finish();
    const timer = setTimeout(() => {
      for (const connection of connections) connection.cut();
    }, graceMs);
    await Promise.all(connections.map((connection) => connection.closed));
    clearTimeout(timer);
  }

  #accept(socket: Socket): void {
    socket.on('error', () => {});
    let peer: WorkloadPeer | undefined;
    try {
      const { all, ofUser } = this.#bounds;
      if (this.#connections.size >= all) throw new Error(`there are ${all} connections`);
      peer = this.#options.peerOf(socket);
      const nowMs = performance.now();
      const budget = this.#budgets.of(peer.uid, nowMs);
      const problem = budget.connect(nowMs, ofUser);
      if (problem !== undefined) throw new Error(`uid ${peer.uid} ${problem}`);
      const connection = new Connection(socket, peer, budget, this.#options.methods, this.#notice);
      this.#connections.add(connection);
      void connection.closed.then(() => {
        this.#connections.delete(connection);
        budget.connections -= 1;
      });
    } catch (error) {
      peer?.close();
      socket.destroy();
      this.#notice(`a connection is refused: ${(error as Error).message}`);
    }
  }
}
