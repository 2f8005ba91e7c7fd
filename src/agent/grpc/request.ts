import type { Budget } from './budget.ts';
import { FrameReader } from './frame.ts';
import { GrpcError, GrpcStatus } from './status.ts';

/** Of a request, which names a few strings. */
const requestMaxBytes = 64 * 1024;
/** Of all incomplete requests of one user. */
const pendingMaxBytes = 4 * 1024 * 1024;

/** Reads the messages of a call, and counts what it holds of them to its user. */
export class RequestReader {
  readonly #frames = new FrameReader(requestMaxBytes);
  readonly #budget: Budget;

  constructor(budget: Budget) {
    this.#budget = budget;
  }

  /** Throws ResourceExhausted and Unimplemented. */
  read(chunk: Buffer): Buffer[] {
    const before = this.#frames.pending;
    const messages = this.#frames.read(chunk);
    this.#budget.pendingBytes += this.#frames.pending - before;
    if (this.#budget.pendingBytes > pendingMaxBytes)
      throw new GrpcError(GrpcStatus.resourceExhausted, 'too many incomplete requests');
    return messages;
  }

  /** Whether it holds nothing. */
  get isAtRest(): boolean {
    return this.#frames.pending === 0;
  }

  /** Call it once, when nothing more is read. True where a message was cut short. */
  close(): boolean {
    this.#budget.pendingBytes -= this.#frames.pending;
    return this.#frames.pending > 0;
  }
}
