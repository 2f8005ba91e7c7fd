import { VouchError } from '../core/errors.ts';
import type { Signer } from '../signer/port.ts';

/** As long as a respawn may take. */
const waitForSignerMs = 3_000;

/** For how long the signer of each issuer has been away, as those who want a signature found it. */
export class Outage {
  /** By issuer, monotonic time at which the first of them met a signer that does not sign. */
  readonly #sinceMs = new Map<string | undefined, number>();

  /** One signs again. */
  over(): void {
    this.#sinceMs.clear();
  }

  /**
   * A respawn is waited for; past that nothing is committed that could not be signed, or each retry of each agent would
   * leave a leaf while the token is away. Throws `unavailable-signer`.
   */
  refuse(signer: Pick<Signer, 'status'>, issuerKeyId?: string): void {
    const { state } = signer.status(issuerKeyId);
    if (state === 'unusable')
      throw new VouchError(
        'unavailable-signer',
        'the signer is not usable; ask the operator for `vouch status`',
        { retryAfterSeconds: 30 },
      );
    if (state === 'usable') {
      this.#sinceMs.delete(issuerKeyId);
      return;
    }
    const nowMs = performance.now();
    const sinceMs = this.#sinceMs.get(issuerKeyId) ?? nowMs;
    this.#sinceMs.set(issuerKeyId, sinceMs);
    if (nowMs - sinceMs > waitForSignerMs)
      throw new VouchError('unavailable-signer', 'nothing can be signed now; try again', {
        retryAfterSeconds: 2 + Math.random() * 4,
      });
  }
}
