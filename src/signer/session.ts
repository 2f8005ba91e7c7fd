import type { Duplex } from 'node:stream';
import { asVouchError, type VouchError } from '../core/errors.ts';
import { encodeFrame, type Frame, FrameReader } from './frames.ts';
import { answers, encodeError } from './protocol.ts';

/** Answers a request's kind and payload, or rejects with what the client is told. */
export type Handler = (kind: number, payload: Buffer) => Promise<Buffer>;

/** One client: reads its frames, hands them on in order, answers as results come. */
export class Session {
  readonly #stream: Duplex;
  readonly #handler: Handler;
  readonly #reader: FrameReader;
  #heardMs: number;
  /** Resolves when the client is gone. */
  readonly ended: Promise<void>;

  constructor(stream: Duplex, handler: Handler, nowMs: () => number, reader = new FrameReader()) {
    this.#reader = reader;
    this.#stream = stream;
    this.#handler = handler;
    this.#heardMs = nowMs();
    this.ended = new Promise((resolve) => stream.once('close', () => resolve()));
    stream.on('error', () => stream.destroy());
    stream.on('end', () => stream.destroy());
    stream.on('data', (chunk: Buffer) => {
      this.#heardMs = nowMs();
      this.#take(chunk);
    });
  }

  /** When the client last sent something, in the given clock's milliseconds. */
  get heardMs(): number {
    return this.#heardMs;
  }

  /** Ends the connection at once; what was not written out is lost. */
  destroy(): void {
    this.#stream.destroy();
  }

  /** Ends the connection at once, and says why. */
  destroyBecause(error: VouchError): void {
    this.#write(0, answers.ending, encodeError(error));
    this.#stream.destroy();
  }

  /** Ends the connection once what was written is out. */
  close(): void {
    this.#stream.end(() => this.#stream.destroy());
  }

  #take(chunk: Buffer): void {
    let frames: Frame[];
    try {
      frames = this.#reader.push(chunk);
    } catch {
      // Past a frame that is not one, nothing can be told apart any more.
      this.#stream.destroy();
      return;
    }
    for (const frame of frames) this.#answer(frame).catch(() => this.#stream.destroy());
  }

  async #answer(frame: Frame): Promise<void> {
    try {
      const result = await this.#handler(frame.kind, frame.payload);
      this.#write(frame.requestId, answers.done, result);
    } catch (error) {
      this.#write(frame.requestId, answers.refused, encodeError(asVouchError(error)));
    }
  }

  #write(requestId: number, kind: number, payload: Buffer): void {
    if (this.#stream.destroyed) return;
    const [head, body] = encodeFrame({ requestId, kind, payload });
    this.#stream.cork();
    this.#stream.write(head);
    if (body.length > 0) this.#stream.write(body);
    this.#stream.uncork();
  }
}

/** A hello has 13 bytes; nothing else is of interest. */
const turnedAwayMaxBytes = 64;
const turnedAwayMs = 1000;

/** Tells a client why it is not served, at its first request, and ends. One that asks nothing, or too much, is cut off. */
export function turnAway(stream: Duplex, error: VouchError): void {
  const refuse = (): Promise<Buffer> => {
    setImmediate(() => session.close());
    return Promise.reject(error);
  };
  const session = new Session(stream, refuse, () => 0, new FrameReader(turnedAwayMaxBytes));
  const timer = setTimeout(() => session.destroy(), turnedAwayMs);
  void session.ended.then(() => clearTimeout(timer));
}
