import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto';
import { VouchError } from '../core/errors.ts';

/** How long a nonce may be used. */
const nonceLifetimeMs = 60_000;
const expiryBytes = 6;
const saltBytes = 10;
const tagBytes = 16;

/**
 * One-use nonces for clients that have no TLS exporter, or that stand behind a proxy that ends TLS: 32 bytes of expiry,
 * salt and MAC, so that only those are remembered that were redeemed, and no flood of requests voids anybody's. The key
 * lives as long as the process: a restart voids them all, which costs a client one more request.
 */
export class Challenges {
  readonly #key = randomBytes(32);
  /** Redeemed nonces in hex with their expiry in Unix milliseconds, oldest first. */
  readonly #redeemed = new Map<string, number>();

  /** A fresh nonce of 32 bytes. */
  issue(nowMs: number): { nonce: Buffer; expiresAtMs: number } {
    const expiresAtMs = Math.floor(nowMs) + nonceLifetimeMs;
    const content = Buffer.alloc(expiryBytes + saltBytes);
    content.writeUIntBE(expiresAtMs, 0, expiryBytes);
    randomBytes(saltBytes).copy(content, expiryBytes);
    return { nonce: Buffer.concat([content, this.#tag(content)]), expiresAtMs };
  }

  /** Takes a nonce back, once. Throws `request-binding` where it is unknown, used or too old. */
  redeem(nonce: Buffer, nowMs: number): Buffer {
    const content = nonce.subarray(0, expiryBytes + saltBytes);
    const name = nonce.toString('hex');
    const isOurs =
      nonce.length === expiryBytes + saltBytes + tagBytes &&
      timingSafeEqual(nonce.subarray(content.length), this.#tag(content));
    if (!isOurs || nowMs > content.readUIntBE(0, expiryBytes) || this.#redeemed.has(name))
      throw new VouchError(
        'request-binding',
        'the nonce is unknown, used or older than 60 s; ask for a new one at /v1/challenge',
      );
    this.#forgetExpired(nowMs);
    this.#redeemed.set(name, content.readUIntBE(0, expiryBytes));
    return nonce;
  }

  #tag(content: Buffer): Buffer {
    return createHmac('sha256', this.#key).update(content).digest().subarray(0, tagBytes);
  }

  /** They come in no order of expiry, but none outlives one that came a lifetime later. */
  #forgetExpired(nowMs: number): void {
    for (const [name, expiresAtMs] of this.#redeemed) {
      if (expiresAtMs >= nowMs) break;
      this.#redeemed.delete(name);
    }
  }
}
