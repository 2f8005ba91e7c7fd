import { randomBytes } from 'node:crypto';
import { VouchError } from '../core/errors.ts';

/** How long a nonce may be used. */
const nonceLifetimeMs = 60_000;
const nonceBytes = 32;

/**
 * One-use nonces for clients that have no TLS exporter, or that stand behind a proxy that ends TLS. Held in memory:
 * a restart voids them, which costs a client one more request. The oldest go when `most` are out.
 */
export class Challenges {
  readonly #expiry = new Map<string, number>();
  readonly #most: number;

  constructor(most = 10_000) {
    this.#most = most;
  }

  /** A fresh nonce of 32 bytes. */
  issue(nowMs: number): { nonce: Buffer; expiresAtMs: number } {
    const oldest = this.#expiry.keys().next();
    if (this.#expiry.size >= this.#most && !oldest.done) this.#expiry.delete(oldest.value);
    const nonce = randomBytes(nonceBytes);
    const expiresAtMs = nowMs + nonceLifetimeMs;
    this.#expiry.set(nonce.toString('hex'), expiresAtMs);
    return { nonce, expiresAtMs };
  }

  /** Takes a nonce back, once. Throws `request-binding` where it is unknown, used or too old. */
  redeem(nonce: Buffer, nowMs: number): Buffer {
    const key = nonce.toString('hex');
    const expiresAtMs = this.#expiry.get(key);
    this.#expiry.delete(key);
    if (expiresAtMs === undefined || nowMs > expiresAtMs)
      throw new VouchError(
        'request-binding',
        'the nonce is unknown, used or older than 60 s; ask for a new one at /v1/challenge',
      );
    return nonce;
  }
}
