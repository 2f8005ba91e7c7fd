import { constants, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2';
import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import type { Budget } from './budget.ts';
import { frame } from './frame.ts';
import type { Call, Method, Out } from './method.ts';
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
  /** A call is over. */
  forget(exchange: Exchange): void;
}

/**
 * One call on its HTTP/2 stream: the request until it is whole, then the method's answers, then a status, once. A
 * stream lives for months and there are thousands: what is needed no more is let go.
 */
export class Exchange implements Out {
  readonly #stream: ServerHttp2Stream;
  readonly #carrier: Carrier;
  #reader: RequestReader | undefined;
  #status: GrpcError | undefined;
  #ended = false;
  #isLong = false;
  #whenClosed: (() => void) | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(stream: ServerHttp2Stream, carrier: Carrier) {
    this.#stream = stream;
    this.#carrier = carrier;
    this.#reader = new RequestReader(carrier.budget);
    stream.once('close', () => this.#closed());
  }

  /** Reads the request and runs `method`. */
  run(method: Method | undefined, headers: IncomingHttpHeaders): void {
    try {
      if (method === undefined) throw new GrpcError(GrpcStatus.unimplemented, 'unknown method');
      this.#isLong = method.kind !== 'unary';
      const deadlineMs = deadlineOf(headers);
      if (method.kind === 'bidi') return this.#converse(method, { peer: this.#carrier.peer, headers });
      this.#endAfter(Math.min(requestMs, deadlineMs));
      const messages: Buffer[] = [];
      this.#receive(
        (message) => {
          messages.push(message);
          if (messages.length > 1) throw wrongCount();
        },
        () => {
          this.#endAfter(deadlineMs);
          void this.#answer(method, messages[0], { peer: this.#carrier.peer, headers });
        },
      );
    } catch (error) {
      this.#fail(error);
    }
  }

  /** The agent stops: a stream would never end by itself. */
  stop(): void {
    if (this.#isLong) this.end(new GrpcError(GrpcStatus.unavailable, 'the agent is stopping'));
  }

  get unread(): number {
    return this.#stream.writableLength;
  }

  send(message: Buffer): void {
    if (this.#ended || this.#isGone) return;
    if (!this.#carrier.mayQueue(message.length, this.unread)) return this.#cut();
    if (!this.#stream.headersSent) this.#respond();
    this.#carrier.unread += message.length;
    this.#stream.write(message, () => {
      this.#carrier.unread -= message.length;
    });
  }

  end(error?: GrpcError): void {
    if (this.#ended || this.#isGone) return;
    this.#ended = true;
    this.#status = error;
    this.#stopTimer();
    if (this.#stream.headersSent) this.#stream.end();
    else {
      const headers = { ...responseHeaders, ...statusHeaders(error) };
      this.#stream.respond(headers, { endStream: true });
      this.#stopCaller();
    }
  }

  /** Its caller has reset it, or the connection: Node throws where anything is said then. */
  get #isGone(): boolean {
    return this.#stream.destroyed || this.#stream.closed;
  }

  #respond(): void {
    this.#stream.once('wantTrailers', () => {
      if (this.#isGone) return;
      this.#stream.sendTrailers(statusHeaders(this.#status));
      this.#stopCaller();
    });
    this.#stream.respond(responseHeaders, { waitForTrailers: true });
  }

  /** A caller that is still sending is told to stop (RFC 9113 §8.1), once the status is on its way. */
  #stopCaller(): void {
    if (!this.#stream.readableEnded) setImmediate(() => this.#stream.close(constants.NGHTTP2_NO_ERROR));
  }

  #converse(method: Extract<Method, { kind: 'bidi' }>, call: Call): void {
    const conversation = method.open(call, this);
    this.#whenClosed = () => conversation.closed();
    this.#receive(
      (message) => conversation.message(message),
      () => this.end(),
    );
  }

  async #answer(
    method: Exclude<Method, { kind: 'bidi' }>,
    request: Buffer | undefined,
    call: Call,
  ): Promise<void> {
    try {
      if (request === undefined) throw wrongCount();
      if (method.kind === 'unary') {
        this.send(frame(await method.call(request, call)));
        return this.end();
      }
      const whenClosed = await method.open(request, call, this);
      if (this.#isGone) whenClosed();
      else this.#whenClosed = whenClosed;
    } catch (error) {
      this.#fail(error);
    }
  }

  #receive(message: (bytes: Buffer) => void, whole: () => void): void {
    const onData = (chunk: Buffer): void => {
      try {
        if (!this.#ended) this.#reader?.read(chunk).forEach(message);
      } catch (error) {
        this.#fail(error);
      }
    };
    this.#stream.on('data', onData);
    this.#stream.once('end', () => {
      this.#stream.off('data', onData);
      const isCutShort = this.#stopReading();
      if (this.#ended) return;
      if (isCutShort) this.#fail(new GrpcError(GrpcStatus.internal, 'the request is cut short'));
      else whole();
    });
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

  #closed(): void {
    this.#ended = true;
    this.#stopTimer();
    this.#stopReading();
    this.#carrier.forget(this);
    this.#whenClosed?.();
  }
}

const responseHeaders = {
  ':status': 200,
  'content-type': 'application/grpc',
  'grpc-accept-encoding': 'identity',
} as const;

function wrongCount(): GrpcError {
  return new GrpcError(GrpcStatus.unimplemented, 'the method takes one request message');
}

/** Milliseconds; Infinity without a `grpc-timeout`. */
function deadlineOf(headers: IncomingHttpHeaders): number {
  const text = headers['grpc-timeout'];
  return text === undefined ? Number.POSITIVE_INFINITY : timeoutMsOf(String(text));
}
