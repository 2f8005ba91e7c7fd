import { openFilesLimit } from '../../native/limits.ts';

/** Of all users: who owns a range of sub-uids is many. Of one: a host's workloads, most of them root's. */
const connectionsMax = { all: 10_000, ofUser: 2_500 };

/**
 * How many connections there may be, by the descriptors that this process may open: each takes two, and a fifth of them is
 * for the rest of the agent, which could renew nothing without.
 */
export function connectionBounds(descriptors = openFilesLimit()): { all: number; ofUser: number } {
  const all = Math.min(connectionsMax.all, Math.floor((descriptors * 2) / 5));
  return { all, ofUser: Math.min(connectionsMax.ofUser, Math.ceil(all / 3)) };
}

/** What one user may, besides connections. */
const perUser = {
  /** Three of each connection. */
  streams: 7_500,
  /** All streams come back at once when the agent has restarted. A call takes a tenth of a millisecond. */
  calls: { burst: 7_500, perSecond: 1_000 },
  /** A connection takes half a millisecond. */
  connects: { burst: 3_000, perSecond: 100 },
} as const;

/** What all callers of one user hold and do together, so that none of them can fill the agent, or keep it from others. */
export class Budget {
  connections = 0;
  streams = 0;
  /** Bytes of requests that have not come as a whole. */
  pendingBytes = 0;
  readonly #calls = new Allowance(perUser.calls);
  readonly #connects = new Allowance(perUser.connects);

  /** Counts a connection. Gives why there may be none, or undefined. */
  connect(nowMs: number, most: number): string | undefined {
    if (this.connections >= most) return `has ${most} connections`;
    if (!this.#connects.take(nowMs)) return 'connects again and again';
    this.connections += 1;
    return undefined;
  }

  get hasRoom(): boolean {
    return this.streams < perUser.streams;
  }

  /** Counts a call; false past the bound. */
  call(nowMs: number): boolean {
    return this.#calls.take(nowMs);
  }

  /** Whether one that begins anew is the same. */
  isUntouched(nowMs: number): boolean {
    return (
      this.connections === 0 &&
      this.#calls.left(nowMs) === perUser.calls.burst &&
      this.#connects.left(nowMs) === perUser.connects.burst
    );
  }
}

/** From so many users on it is looked whom to forget. */
const knownMin = 1_000;

/** Budgets by uid. */
export class Budgets {
  readonly #of = new Map<number, Budget>();
  #lookAt = knownMin;

  of(uid: number, nowMs: number): Budget {
    const known = this.#of.get(uid);
    if (known !== undefined) return known;
    if (this.#of.size >= this.#lookAt) this.#forget(nowMs);
    const budget = new Budget();
    this.#of.set(uid, budget);
    return budget;
  }

  #forget(nowMs: number): void {
    for (const [uid, budget] of this.#of) if (budget.isUntouched(nowMs)) this.#of.delete(uid);
    this.#lookAt = Math.max(knownMin, 2 * this.#of.size);
  }
}

/** So many at once, and from then on so many a second. Times are monotonic. */
class Allowance {
  readonly #burst: number;
  readonly #perSecond: number;
  #left: number;
  #atMs = 0;

  constructor({ burst, perSecond }: { burst: number; perSecond: number }) {
    this.#burst = burst;
    this.#perSecond = perSecond;
    this.#left = burst;
  }

  left(nowMs: number): number {
    this.#left = Math.min(this.#burst, this.#left + ((nowMs - this.#atMs) * this.#perSecond) / 1000);
    this.#atMs = nowMs;
    return this.#left;
  }

  /** Takes one; false where there is none. */
  take(nowMs: number): boolean {
    if (this.left(nowMs) < 1) return false;
    this.#left -= 1;
    return true;
  }
}

/** At most `max` in each `windowMs`. */
export class Rate {
  readonly #max: number;
  readonly #windowMs: number;
  #count = 0;
  #since = 0;

  constructor(max: number, windowMs: number) {
    this.#max = max;
    this.#windowMs = windowMs;
  }

  /** Counts one more; false past the bound. `nowMs` is monotonic. */
  take(nowMs: number): boolean {
    if (nowMs - this.#since >= this.#windowMs) {
      this.#since = nowMs;
      this.#count = 0;
    }
    return ++this.#count <= this.#max;
  }
}
