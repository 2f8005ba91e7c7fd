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
