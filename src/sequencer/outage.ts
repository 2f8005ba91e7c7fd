import { VouchError } from '../core/errors.ts';
import type { Signer } from '../signer/port.ts';

/** As long as a respawn may take. */
const waitForSignerMs = 3_000;

/** For how long the signer has been away, as those who want a signature found it. */
export class Outage {
  /** Monotonic time at which the first of them met a signer that does not sign. */
  #sinceMs: number | undefined;

  /** It signs again. */
  over(): void {
    this.#sinceMs = undefined;
  }

  /**
   * A respawn is waited for; past that nothing is committed that could not be signed, or each retry of each agent would
   * leave a leaf while the token is away. Throws `unavailable-signer`.
   */
  refuse(signer: Pick<Signer, 'status'>): void {
    const { state } = signer.status();
    if (state === 'unusable')
      throw new VouchError(
        'unavailable-signer',
        'the signer is not usable; ask the operator for `vouch status`',
        { retryAfterSeconds: 30 },
      );
    if (state === 'usable') return this.over();
    const nowMs = performance.now();
    this.#sinceMs ??= nowMs;
    if (nowMs - this.#sinceMs > waitForSignerMs)
      throw new VouchError('unavailable-signer', 'nothing can be signed now; try again', {
        retryAfterSeconds: 2 + Math.random() * 4,
      });
  }
}
