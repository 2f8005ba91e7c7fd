import type { HsmHealth } from './hsm.ts';

/** Payload of a ping's answer: JSON. */
export function encodeHealth(health: HsmHealth): Buffer {
  return Buffer.from(JSON.stringify(health), 'utf8');
}

/** Reads a ping's answer; undefined where it says nothing that is understood: a living signer is alive all the same. */
export function decodeHealth(payload: Buffer): HsmHealth | undefined {
  try {
    const { sessions, sessionsWanted, failures } = JSON.parse(payload.toString('utf8')) as HsmHealth;
    const { session, login } = failures;
    const isRead = [sessions, sessionsWanted, session, login].every(
      (count) => Number.isSafeInteger(count) && count >= 0,
    );
    return isRead ? { sessions, sessionsWanted, failures: { session, login } } : undefined;
  } catch {
    return undefined;
  }
}

type Counts = HsmHealth['failures'];

/** Counts over several lives of the signer, each of which counts from nothing; `pid` tells one from the next. */
export class FailureCounts {
  readonly #total: Counts = { session: 0, login: 0 };
  #last: { pid: number | undefined; counts: Counts } = { pid: undefined, counts: this.total };

  /** Takes what a life has counted by now. */
  take(pid: number | undefined, counts: Counts): void {
    const last = this.#last.pid === pid ? this.#last.counts : undefined;
    for (const kind of ['session', 'login'] as const)
      this.#total[kind] += Math.max(0, counts[kind] - (last?.[kind] ?? 0));
    this.#last = { pid, counts };
  }

  get total(): Counts {
    return { ...this.#total };
  }
}
