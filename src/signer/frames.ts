import { VouchError } from '../core/errors.ts';

/** One message of either direction: a request with its operation, or the answer with its status. */
export interface Frame {
  /** Chosen by the client; the answer repeats it. */
  requestId: number;
  /** Operation of a request, status of an answer; one byte. */
  kind: number;
  payload: Buffer;
}

/** Largest frame that either side reads: the largest that is sent, an append of 64 of the largest leaves, has 4 MiB. */
export const frameMaxBytes = 16 * 1024 * 1024;

const headBytes = 9;

/** Bytes of a frame: u32 length of what follows, u32 request id, u8 kind, payload. Not copied together. */
export function encodeFrame(frame: Frame): [head: Buffer, payload: Buffer] {
  const length = headBytes - 4 + frame.payload.length;
  if (length > frameMaxBytes)
    throw new VouchError('request-too-large', `a message to the signer holds ${frameMaxBytes} bytes`);
  const head = Buffer.allocUnsafe(headBytes);
  head.writeUInt32BE(length, 0);
  head.writeUInt32BE(frame.requestId, 4);
  head.writeUInt8(frame.kind, 8);
  return [head, frame.payload];
}

/** Cuts a byte stream into frames; holds no more than one frame's bytes. */
export class FrameReader {
  readonly #maxBytes: number;
  #chunks: Buffer[] = [];
  #held = 0;
  /** Bytes of the frame under way with its head; unknown until the length field is there. */
  #wanted: number | undefined;

  /** Reads frames of at most `maxBytes`. */
  constructor(maxBytes = frameMaxBytes) {
    this.#maxBytes = maxBytes;
  }

  /** Takes what arrived; returns the frames it completes. Throws `request-malformed` or `request-too-large`. */
  push(chunk: Buffer): Frame[] {
    this.#chunks.push(chunk);
    this.#held += chunk.length;
    const frames: Frame[] = [];
    for (let frame = this.#next(); frame; frame = this.#next()) frames.push(frame);
    return frames;
  }

  #next(): Frame | undefined {
    this.#wanted ??= this.#readLength();
    if (this.#wanted === undefined || this.#held < this.#wanted) return undefined;
    const all = this.#joined();
    const frame = all.subarray(0, this.#wanted);
    const rest = all.subarray(this.#wanted);
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#held = rest.length;
    this.#wanted = undefined;
    return { requestId: frame.readUInt32BE(4), kind: frame.readUInt8(8), payload: frame.subarray(headBytes) };
  }

  #readLength(): number | undefined {
    if (this.#held < 4) return undefined;
    const joined = this.#joined();
    this.#chunks = [joined];
    const length = joined.readUInt32BE(0);
    if (length < headBytes - 4) throw new VouchError('request-malformed', 'signer message is too short');
    if (length > this.#maxBytes) throw new VouchError('request-too-large', 'signer message is too long');
    return length + 4;
  }

  #joined(): Buffer {
    const [first] = this.#chunks;
    return this.#chunks.length === 1 && first ? first : Buffer.concat(this.#chunks, this.#held);
  }
}
