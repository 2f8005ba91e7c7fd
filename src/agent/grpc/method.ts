import type { IncomingHttpHeaders } from 'node:http2';
import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import type { Budget } from './budget.ts';
import type { Frame } from './frame.ts';
import type { GrpcError } from './status.ts';

/** What a method knows of its caller. */
export interface Call {
  /** Of the connection, which all its calls share. */
  readonly peer: WorkloadPeer;
  readonly headers: IncomingHttpHeaders;
  /** For what costs as much as another call. */
  readonly budget: Pick<Budget, 'call'>;
}

/** The caller's end of a stream. After its end all of it does nothing. */
export interface Out {
  /** Sends what `frame()` or `frameOfParts()` made. A caller who leaves too much unread is cut. */
  send(frame: Buffer | Frame): void;
  end(error?: GrpcError): void;
  /** Bytes that the caller has not read. */
  readonly unread: number;
}

/** A method by its shape. What it throws that is no GrpcError reaches the caller as Internal, without its text. */
export type Method =
  /** Resolves to a message, or to its frame. */
  | { kind: 'unary'; call(request: Buffer, call: Call): Promise<Buffer | Frame> }
  | { kind: 'stream'; open(request: Buffer, call: Call, out: Out): Promise<Opened> }
  | { kind: 'bidi'; open(call: Call, out: Out): Conversation };

/** A stream that is open. */
export interface Opened {
  /** Is called once, when the stream has ended. */
  closed(): void;
}

/** One whose caller goes on talking. */
export interface Conversation extends Opened {
  message(bytes: Buffer): void;
}
