import http2 from 'node:http2';
import type { Socket } from 'node:net';
import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import { type Budget, Rate } from './budget.ts';
import { type Carrier, Exchange } from './exchange.ts';
import { giveBackSoon } from './leftovers.ts';
import type { Method } from './method.ts';

/** What strangers may hold. */
const bounds = {
  /** Of one connection. */
  streams: 1_200,
  /** Bytes that a stream may leave unread when more comes; a single message may be larger. */
  unreadOfStream: 1024 * 1024,
  unreadOfConnection: 16 * 1024 * 1024,
  /** PING and SETTINGS frames of a connection in ten seconds; clients send one a few seconds apart. */
  controlFrames: 100,
} as const;

/** As Node documents them; its types lack these. */
interface SessionOptions extends http2.ServerSessionOptions {
  maxSessionInvalidFrames: number;
  streamResetBurst: number;
  streamResetRate: number;
}

const sessionOptions: SessionOptions = {
  settings: { maxConcurrentStreams: bounds.streams, maxHeaderListSize: 8192, enablePush: false },
  maxHeaderListPairs: 64,
  // MB; holds the bounds on unread bytes, which are cut earlier.
  maxSessionMemory: 64,
  maxSettings: 16,
  maxOutstandingPings: 4,
  maxSessionInvalidFrames: 100,
  // Opened and reset streams (CVE-2023-44487): a burst, then so many a second.
  streamResetBurst: 2_400,
  streamResetRate: 50,
};

/** An HTTP/2 connection and its calls. The peer is closed with it. */
export class Connection implements Carrier {
  readonly peer: WorkloadPeer;
  readonly budget: Budget;
  readonly exchanges = new Map<http2.ServerHttp2Stream, Exchange>();
  readonly notice: (line: string) => void;
  unread = 0;
  readonly closed: Promise<void>;
  readonly #session: http2.ServerHttp2Session;
  readonly #listeners = streamListeners(this.exchanges);
  readonly #control = new Rate(bounds.controlFrames, 10_000);

  constructor(
    socket: Socket,
    peer: WorkloadPeer,
    budget: Budget,
    methods: ReadonlyMap<string, Method>,
    notice: (line: string) => void,
  ) {
    this.peer = peer;
    this.budget = budget;
    this.notice = notice;
    this.#session = http2.performServerHandshake(socket, sessionOptions);
    const control = () => this.#countControl();
    this.#session
      .on('error', nothing)
      .on('ping', control)
      .on('remoteSettings', control)
      .on('stream', (stream, headers) => this.#open(stream, headers, methods));
    this.closed = new Promise((resolve) =>
      this.#session.once('close', () => {
        peer.close();
        resolve();
      }),
    );
  }

  mayQueue(bytes: number, queued: number): boolean {
    return (
      (queued === 0 || queued + bytes <= bounds.unreadOfStream) &&
      (this.unread === 0 || this.unread + bytes <= bounds.unreadOfConnection)
    );
  }

  forget(stream: http2.ServerHttp2Stream): void {
    if (this.exchanges.delete(stream)) this.budget.streams -= 1;
    giveBackSoon();
    // Its holder gets nothing on this connection any more, and a client that goes on would ask on it for ever: told to leave
    // (GOAWAY, RFC 9113 §6.8), it connects again, as who it is now.
    if (!this.#session.closed && !this.peer.isAlive()) this.#session.close();
  }

  /** Takes no more calls, ends streams, lets unary calls finish. */
  finish(): void {
    if (!this.#session.closed) this.#session.close();
    for (const exchange of this.exchanges.values()) exchange.stop();
  }

  cut(): void {
    this.#session.destroy();
  }

  #open(
    stream: http2.ServerHttp2Stream,
    headers: http2.IncomingHttpHeaders,
    methods: ReadonlyMap<string, Method>,
  ): void {
    stream.on('error', nothing);
    if (!this.budget.call(performance.now())) return this.#cutFor('calls again and again');
    if (!this.budget.hasRoom) return stream.close(http2.constants.NGHTTP2_REFUSED_STREAM);
    const status = httpProblem(headers);
    if (status !== undefined) {
      stream.respond({ ':status': status }, { endStream: true });
      stream.close(http2.constants.NGHTTP2_NO_ERROR);
      return;
    }
    const exchange = new Exchange(stream, this);
    this.exchanges.set(stream, exchange);
    this.budget.streams += 1;
    const { received, receivedAll, sendStatus, closed } = this.#listeners;
    stream.on('wantTrailers', sendStatus).on('close', closed);
    exchange.run(methods.get(headers[':path'] ?? ''), headers);
    // Last: it begins to flow.
    stream.on('end', receivedAll).on('data', received);
  }

  #countControl(): void {
    if (this.#control.take(performance.now())) return;
    this.#cutFor('floods its connection with control frames');
  }

  #cutFor(why: string): void {
    this.notice(`pid ${this.peer.pid} ${why}: it is cut`);
    this.#session.destroy(undefined, http2.constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

/** What a stream tells its exchange. One of each for all streams: closures of its own would cost each half a kilobyte. */
function streamListeners(exchanges: ReadonlyMap<http2.ServerHttp2Stream, Exchange>) {
  type Stream = http2.ServerHttp2Stream;
  return {
    received(this: Stream, chunk: Buffer): void {
      exchanges.get(this)?.received(chunk);
    },
    receivedAll(this: Stream): void {
      exchanges.get(this)?.receivedAll();
    },
    sendStatus(this: Stream): void {
      exchanges.get(this)?.sendStatus();
    },
    closed(this: Stream): void {
      exchanges.get(this)?.closed();
    },
  };
}

/** What went wrong ends in 'close' as well. */
function nothing(): void {}

/** What is no gRPC is answered in HTTP ("HTTP2 Transport Mapping" of gRPC over HTTP/2). */
function httpProblem(headers: http2.IncomingHttpHeaders): number | undefined {
  if (headers[':method'] !== 'POST') return 405;
  return /^application\/grpc(\+proto)?(;|$)/.test(headers['content-type'] ?? '') ? undefined : 415;
}
