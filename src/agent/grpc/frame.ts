import { GrpcError, GrpcStatus } from './status.ts';

const prefixBytes = 5;
const none = Buffer.alloc(0);

/** A message as it travels: a flag for "not compressed", its length (32 bits), itself. Made once, shared by many streams. */
export function frame(message: Uint8Array): Buffer {
  const out = Buffer.allocUnsafeSlow(prefixBytes + message.length);
  out[0] = 0;
  out.writeUInt32BE(message.length, 1);
  out.set(message, prefixBytes);
  return out;
}

/** A message as it travels, in parts: what is large in it is shared with other frames, not copied. */
export type Frame = readonly Buffer[];

/** From so many bytes on a part of a frame is not copied. */
export const sharedMinBytes = 64 * 1024;

/** The frame of a message whose bytes come in parts. */
export function frameOfParts(parts: readonly Uint8Array[]): Frame {
  const prefix = Buffer.alloc(prefixBytes);
  prefix.writeUInt32BE(
    parts.reduce((sum, part) => sum + part.length, 0),
    1,
  );
  const joined: Buffer[] = [];
  let small: Uint8Array[] = [prefix];
  for (const part of parts) {
    if (part.length < sharedMinBytes) small.push(part);
    else {
      if (small.length > 0) joined.push(Buffer.concat(small));
      joined.push(Buffer.isBuffer(part) ? part : Buffer.from(part));
      small = [];
    }
  }
  if (small.length > 0) joined.push(Buffer.concat(small));
  return joined;
}

/** Cuts what arrives into messages. What it holds is a copy: a chunk of Node's keeps 64 KiB alive. */
export class FrameReader {
  readonly #maxBytes: number;
  #held: Buffer = none;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Bytes of a message that is not there as a whole. */
  get pending(): number {
    return this.#held.length;
  }

  /** The messages that `chunk` completes. Throws ResourceExhausted, or Unimplemented for a compressed one. */
  read(chunk: Buffer): Buffer[] {
    const messages: Buffer[] = [];
    let bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    while (bytes.length > 0) {
      // Any flag but 0: we offer no compression.
      if (bytes[0] !== 0)
        throw new GrpcError(GrpcStatus.unimplemented, 'compressed messages are not supported');
      if (bytes.length < prefixBytes) break;
      const length = bytes.readUInt32BE(1);
      if (length > this.#maxBytes)
        throw new GrpcError(GrpcStatus.resourceExhausted, `a request has at most ${this.#maxBytes} bytes`);
      if (bytes.length < prefixBytes + length) break;
      messages.push(Buffer.from(bytes.subarray(prefixBytes, prefixBytes + length)));
      bytes = bytes.subarray(prefixBytes + length);
    }
    this.#held = bytes.length === 0 ? none : Buffer.from(bytes);
    return messages;
  }
}
