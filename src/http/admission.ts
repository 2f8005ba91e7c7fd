import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import { VouchError } from '../core/errors.ts';
import { addressGroup } from './address-group.ts';

/**
 * Bounds what is in progress. Renewals may use all of it, first enrollments three quarters: who already runs is
 * served before who wants to start.
 */
export class Admission {
  readonly #most: number;
  #inFlight = 0;

  constructor(inFlightMax: number) {
    this.#most = inFlightMax;
  }

  get inFlight(): number {
    return this.#inFlight;
  }

  /**
   * Runs one attempt; `unavailable-overloaded` with a jittered Retry-After where there is no room. Only work takes room:
   * neither the wait for what a peer has yet to send nor for what it has yet to read.
   */
  async within<T>(kind: 'enrollment' | 'renewal', work: () => Promise<T>): Promise<T> {
    const most = kind === 'renewal' ? this.#most : Math.floor(this.#most * 0.75);
    if (this.#inFlight >= most)
      throw new VouchError('unavailable-overloaded', 'too many requests are in progress; try again', {
        retryAfterSeconds: 1 + Math.random() * 4,
      });
    this.#inFlight += 1;
    try {
      return await work();
    } finally {
      this.#inFlight -= 1;
    }
  }
}

/** Not what is ours, nor what passes by itself. */
export function isPeersFailure({ code }: VouchError): boolean {
  if (code === 'policy-clock' || code === 'policy-entry-changed' || code === 'policy-not-fresh') return false;
  return /^(?:request|denied|policy)-/.test(code);
}

/** Counts failures by address and by identity, and refuses who has failed too often within a minute. */
export class FailureLimits {
  readonly #byAddress: RateLimiterMemory;
  readonly #byIdentity: RateLimiterMemory;

  constructor(failuresPerMinute: number) {
    this.#byAddress = new RateLimiterMemory({
      points: failuresPerMinute,
      duration: 60,
      keyPrefix: 'address',
    });
    this.#byIdentity = new RateLimiterMemory({
      points: failuresPerMinute,
      duration: 60,
      keyPrefix: 'identity',
    });
  }

  /** Throws `unavailable-rate-limited` where one of the two has failed too often. */
  async refuseExhausted({ address, identity }: Attempter): Promise<void> {
    if (address !== undefined) await refuse(this.#byAddress, addressGroup(address));
    if (identity !== undefined) await refuse(this.#byIdentity, identity);
  }

  /** Counts one failure. */
  async failed({ address, identity }: Attempter): Promise<void> {
    if (address !== undefined) await count(this.#byAddress, addressGroup(address));
    if (identity !== undefined) await count(this.#byIdentity, identity);
  }
}

/** Whom a failure is counted against. */
export interface Attempter {
  address?: string;
  /** A join token's hash, or the SPIFFE ID of who renews. */
  identity?: string;
}

async function refuse(limiter: RateLimiterMemory, key: string): Promise<void> {
  const used = await limiter.get(key);
  if (used && used.remainingPoints <= 0 && used.consumedPoints >= limiter.points)
    throw new VouchError('unavailable-rate-limited', 'too many failed attempts; wait before the next', {
      retryAfterSeconds: Math.max(1, used.msBeforeNext / 1000),
    });
}

async function count(limiter: RateLimiterMemory, key: string): Promise<void> {
  try {
    await limiter.consume(key);
  } catch (error) {
    if (!(error instanceof RateLimiterRes)) throw error;
  }
}
