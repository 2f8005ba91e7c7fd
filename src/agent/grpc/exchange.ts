import {
  constants,
  type IncomingHttpHeaders,
  type ServerHttp2Stream,
  type ServerStreamResponseOptions,
} from 'node:http2';
import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import type { Budget } from './budget.ts';
import { type Frame, frame } from './frame.ts';
import { giveBackSoon } from './leftovers.ts';
import type { Call, Conversation, Method, Opened, Out } from './method.ts';
import { RequestReader } from './request.ts';
import { GrpcError, GrpcStatus, statusHeaders, timeoutMsOf } from './status.ts';

/** A request is whole within it: who sends half of one holds memory. */
const requestMs = 10_000;
/** Past it timers of Node fire at once. */
const timerMaxMs = 2 ** 31 - 1;

/** The connection that a call came on. */
export interface Carrier {
  readonly peer: WorkloadPeer;
  readonly budget: Budget;
  /** Bytes that its caller has not read, of all streams. */
  unread: number;
  /** False past what a caller may leave unread. */
  mayQueue(bytes: number, queued: number): boolean;
  /** For the agent's log. */
  notice(line: string): void;
  /** The call on this stream is over. */
  forget(stream: ServerHttp2Stream): void;
}

type Answering = Exclude<Method, { kind: 'bidi' }>;

/** A request that is answered once it is whole. */
interface Asked {
  readonly method: Answering;
  readonly call: Call;
  readonly messages: Buffer[];
  readonly deadlineMs: number;
}

/**
 * One call on its HTTP/2 stream: the request until it is whole, then the method's answers, then a status, once. A
 * stream lives for months and there are thousands: what is needed no more is let go.
 */
export class Exchange implements Out {
  readonly #stream: ServerHttp2Stream;
  readonly #carrier: Carrier;
  #reader: RequestReader | undefined;
  #asked: Asked | undefined;
  #conversation: Conversation | undefined;
  #opened: Opened | undefined;
  #status: GrpcError | undefined;
  #ended = false;
  #isLong = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: ServerHttp2Stream, carrier: Carrier) {
    this.#stream = stream;
    this.#carrier = carrier;
  }

  /** Has `method` answer what is received. */
  run(method: Method | undefined, headers: IncomingHttpHeaders): void {
    try {
      if (method === undefined) throw new GrpcError(GrpcStatus.unimplemented, 'unknown method');
      this.#isLong = method.kind !== 'unary';
      const deadlineMs = deadlineOf(headers);
      const { peer, budget } = this.#carrier;
      const call = { peer, headers, budget };
      if (method.kind === 'bidi') {
        this.#conversation = method.open(call, this);
        this.#opened = this.#conversation;
        return;
      }
      this.#asked = { method, call, messages: [], deadlineMs };
      this.#endAfter(Math.min(requestMs, deadlineMs));
    } catch (error) {
      this.#fail(error);
    }
  }

  /** Some bytes of the request. */
  received(chunk: Buffer): void {
    try {
      if (this.#ended) return;
      this.#reader ??= new RequestReader(this.#carrier.budget);
      const messages = this.#reader.read(chunk);
      // A caller of months pauses between its messages.
      if (this.#reader.isAtRest) this.#reader = undefined;
      for (const message of messages) this.#take(message);
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The caller has said all. */
  receivedAll(): void {
    const isCutShort = this.#stopReading();
    if (this.#ended) return;
    if (isCutShort) return this.#fail(new GrpcError(GrpcStatus.internal, 'the request is cut short'));
    if (this.#asked === undefined) return this.end();
    const asked = this.#asked;
    this.#asked = undefined;
    this.#endAfter(asked.deadlineMs);
    void this.#answer(asked);
  }

  /** All messages are on their way: the status may follow. */
  sendStatus(): void {
    if (this.#isGone) return;
    this.#stream.sendTrailers(statusHeaders(this.#status));
    this.#stopCaller();
  }

  /** The stream is no more. */
  closed(): void {
    this.#ended = true;
    this.#asked = undefined;
    this.#stopTimer();
    this.#stopReading();
    this.#carrier.forget(this.#stream);
    this.#opened?.closed();
  }

  /** The agent stops: a stream would never end by itself. */
  stop(): void {
    if (this.#isLong) this.end(new GrpcError(GrpcStatus.unavailable, 'the agent is stopping'));
  }

  get unread(): number {
    return this.#stream.writableLength;
  }

  send(message: Buffer | Frame): void {
    if (this.#ended || this.#isGone) return;
    const parts = Buffer.isBuffer(message) ? [message] : message;
    const bytes = parts.reduce((sum, part) => sum + part.length, 0);
    if (!this.#carrier.mayQueue(bytes, this.unread)) return this.#cut();
    if (!this.#stream.headersSent) this.#stream.respond(streamHeaders, streamOptions);
    giveBackSoon();
    this.#carrier.unread += bytes;
    for (const part of parts)
      this.#stream.write(part, () => {
        this.#carrier.unread -= part.length;
      });
  }

  end(error?: GrpcError): void {
    if (this.#ended || this.#isGone) return;
    this.#ended = true;
    this.#status = error;
    this.#stopTimer();
    if (this.#stream.headersSent) this.#stream.end();
    else {
      const headers = { ...refusalHeaders, ...statusHeaders(error) };
      this.#stream.respond(headers, { endStream: true });
      this.#stopCaller();
    }
  }

  /** Its caller has reset it, or the connection: Node throws where anything is said then. */
  get #isGone(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }

  /** A caller that is still sending is told to stop (RFC 9113 §8.1), once the status is on its way. */
  #stopCaller(): void {
    if (!this.#stream.readableEnded) setImmediate(() => this.#stream.close(constants.NGHTTP2_NO_ERROR));
  }

  #take(message: Buffer): void {
    if (this.#conversation !== undefined) return this.#conversation.message(message);
    this.#asked?.messages.push(message);
    if ((this.#asked?.messages.length ?? 0) > 1) throw wrongCount();
  }

  async #answer({ method, call, messages: [request] }: Asked): Promise<void> {
    try {
      if (request === undefined) throw wrongCount();
      if (method.kind === 'unary') {
        const answer = await method.call(request, call);
        this.send(Buffer.isBuffer(answer) ? frame(answer) : answer);
        return this.end();
      }
      const opened = await method.open(request, call, this);
      if (this.#isGone) opened.closed();
      else this.#opened = opened;
    } catch (error) {
      this.#fail(error);
    }
  }

  #stopReading(): boolean {
    const reader = this.#reader;
    this.#reader = undefined;
    return reader?.close() ?? false;
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #endAfter(ms: number): void {
    this.#stopTimer();
    if (ms > timerMaxMs) return;
    this.#timer = setTimeout(
      () => this.end(new GrpcError(GrpcStatus.deadlineExceeded, 'deadline exceeded')),
      ms,
    );
  }

  #fail(error: unknown): void {
    if (!(error instanceof GrpcError))
      this.#carrier.notice(`a call failed: ${String((error as Error).stack)}`);
    this.end(error instanceof GrpcError ? error : new GrpcError(GrpcStatus.internal, 'internal error'));
  }

  #cut(): void {
    this.#ended = true;
    this.#carrier.notice(`pid ${this.#carrier.peer.pid} does not read what it asked for: its stream is cut`);
    this.#stream.close(constants.NGHTTP2_ENHANCE_YOUR_CALM);
  }
}

/** Node keeps them with the stream: no more than a caller needs of one that goes on. */
const streamHeaders = { ':status': 200, 'content-type': 'application/grpc' } as const;
/** A refused compression must come with what is understood ("Compression" of gRPC over HTTP/2). */
const refusalHeaders = { ...streamHeaders, 'grpc-accept-encoding': 'identity' } as const;
/** Types of Node lack `sendDate`. */
const streamOptions: ServerStreamResponseOptions & { sendDate: boolean } = {
  waitForTrailers: true,
  sendDate: false,
};

function wrongCount(): GrpcError {
  return new GrpcError(GrpcStatus.unimplemented, 'the method takes one request message');
}

/** Milliseconds; Infinity without a `grpc-timeout`. */
function deadlineOf(headers: IncomingHttpHeaders): number {
  const text = headers['grpc-timeout'];
  return text === undefined ? Number.POSITIVE_INFINITY : timeoutMsOf(String(text));
}
