import type { Duplex } from 'node:stream';
import { VouchError } from '../core/errors.ts';
import { encodeFrame, type Frame, FrameReader } from './frames.ts';
import { answers, decodeError } from './protocol.ts';

/** Rejection of what was under way when the connection ended: whether it took effect is not known. */
export class ConnectionLost extends Error {}

/** The client's end of a pipe or socket to the signer: requests out, answers matched by their id. */
export class Connection {
  readonly #stream: Duplex;
  readonly #reader = new FrameReader();
  readonly #waiting = new Map<
    number,
    { resolve: (payload: Buffer) => void; reject: (error: Error) => void }
  >();
  #nextId = 1;
  #lost: ConnectionLost | undefined;
  #lastWords: VouchError | undefined;
  /** Resolves when the stream is closed. */
  readonly ended: Promise<void>;

  constructor(stream: Duplex) {
    this.#stream = stream;
    this.ended = new Promise((resolve) => {
      stream.once('close', () => {
        this.#lose('the connection to the signer ended');
        resolve();
      });
    });
    stream.on('error', () => stream.destroy());
    stream.on('end', () => stream.destroy());
    stream.on('data', (chunk: Buffer) => this.#take(chunk));
  }

  /** Why the signer said that it ends; undefined where it said nothing. */
  get lastWords(): VouchError | undefined {
    return this.#lastWords;
  }

  /** Sends a request; resolves with the answer's payload, rejects with the refusal or with `ConnectionLost`. */
  request(kind: number, payload: Buffer): Promise<Buffer> {
    if (this.#lost) return Promise.reject(this.#lost);
    const requestId = this.#nextId;
    this.#nextId = requestId === 0xffff_ffff ? 1 : requestId + 1;
    const [head, body] = encodeFrame({ requestId, kind, payload });
    return new Promise((resolve, reject) => {
      this.#waiting.set(requestId, { resolve, reject });
      this.#stream.cork();
      this.#stream.write(head);
      if (body.length > 0) this.#stream.write(body);
      this.#stream.uncork();
    });
  }

  /** Ends it; everything under way rejects. */
  destroy(): void {
    this.#stream.destroy();
    this.#lose('the connection to the signer was ended');
  }

  #take(chunk: Buffer): void {
    let frames: Frame[];
    try {
      frames = this.#reader.push(chunk);
    } catch {
      this.#stream.destroy();
      return;
    }
    for (const { requestId, kind, payload } of frames) {
      if (kind === answers.ending) {
        this.#lastWords = refusal(payload);
        continue;
      }
      const waiting = this.#waiting.get(requestId);
      this.#waiting.delete(requestId);
      if (kind === answers.done) waiting?.resolve(payload);
      else waiting?.reject(refusal(payload));
    }
  }

  #lose(why: string): void {
    this.#lost ??= new ConnectionLost(why);
    for (const { reject } of this.#waiting.values()) reject(this.#lost);
    this.#waiting.clear();
  }
}

function refusal(payload: Buffer): VouchError {
  try {
    return decodeError(payload);
  } catch {
    return new VouchError('unavailable-signer', 'the signer refused in a way that cannot be read');
  }
}
