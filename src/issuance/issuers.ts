import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import type { Issuer } from './issuer.ts';

/** The issuers of a trust domain, and which of them issues now. */
export interface Issuers {
  readonly all: readonly Issuer[];
  current(): Issuer;
  /** Throws `integrity-state` for one that is not of this trust domain. */
  of(issuerKeyId: string): Issuer;
  /** False of one that is old, retired or revoked. */
  mayIssue(issuerKeyId: string): boolean;
  /** True where the root has revoked it: nothing that it issued counts any more. */
  isRevoked(issuerKeyId: string): boolean;
  /** Seconds until another takes over from the current one; undefined where that is not to be expected. */
  takeOverInSeconds(): number | undefined;
}

/** A trust domain with one issuer. */
export function soleIssuer(issuer: Issuer): Issuers {
  const all = [issuer];
  return {
    ...{ all, current: () => issuer, of: (keyId) => named(all, keyId) },
    ...{ mayIssue: () => true, isRevoked: () => false, takeOverInSeconds: () => undefined },
  };
}

/** What decides which issuers may issue at all. */
type States = Pick<Issuers, 'all' | 'mayIssue' | 'isRevoked'>;

/** Where the one whose turn it is may issue no more, another that may does. */
export class StandingIssuers implements Issuers {
  readonly #turns: Issuers;
  readonly #states: States;

  /** `turns`: who issues where all of them may. */
  constructor(turns: Issuers, states: States) {
    this.#turns = turns;
    this.#states = states;
  }

  get all(): readonly Issuer[] {
    return this.#states.all;
  }

  /** Where none may, the one whose turn it is: what asks it to issue refuses. */
  current(): Issuer {
    const current = this.#turns.current();
    if (this.mayIssue(current.keyId)) return current;
    return this.all.find(({ keyId }) => this.mayIssue(keyId)) ?? current;
  }

  of(issuerKeyId: string): Issuer {
    return named(this.all, issuerKeyId);
  }

  mayIssue(issuerKeyId: string): boolean {
    return this.#states.mayIssue(issuerKeyId);
  }

  isRevoked(issuerKeyId: string): boolean {
    return this.#states.isRevoked(issuerKeyId);
  }

  takeOverInSeconds(): number | undefined {
    const areAll = this.#turns.all.every(({ keyId }) => this.mayIssue(keyId));
    return areAll ? this.#turns.takeOverInSeconds() : undefined;
  }
}

/** What decides. */
interface Parts {
  first: Issuer;
  standby: Issuer;
  /** Which life of the signer with this issuer's key signs now; undefined while none does. */
  life: (issuerKeyId: string) => number | undefined;
  clock: Pick<Clock, 'monotonicMs'>;
  /** How long the first may be away before the standby issues, and be back before it issues again. */
  afterMs: number;
  /** Called with who issues from now on. */
  changed: (issuer: Issuer) => void;
}

/** Longer than it takes to notice that a signer hangs: one that comes up and hangs again each time is away. */
const steadyMs = 3_000;

/**
 * The first issues while its signer signs or has been away for less than `afterMs`; then the standby, if its signer
 * signs, until the first has signed for as long again: a token that comes and goes does not take the fleet along.
 */
export class Takeover implements Issuers {
  readonly all: readonly Issuer[];
  readonly #parts: Parts;
  #current: Issuer;
  #life: number | undefined;
  /** Since when this life of the first signs. */
  #signsSince: number;
  /** Since when the first has not signed for `steadyMs` on end. */
  #awaySince: number | undefined;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.all = [parts.first, parts.standby];
    this.#current = parts.first;
    this.#signsSince = this.#awaySince = parts.clock.monotonicMs();
  }

  /** Has to be asked each second at least: an absence that nobody has noticed does not count. */
  current(): Issuer {
    const { first, standby, clock, afterMs } = this.#parts;
    const nowMs = clock.monotonicMs();
    const isLost = this.#look(nowMs);
    const standbySigns = this.#parts.life(standby.keyId) !== undefined;
    const isAway = this.#awaySince !== undefined && nowMs - this.#awaySince >= afterMs;
    const isBack = this.#life !== undefined && nowMs - this.#signsSince >= (standbySigns ? afterMs : 0);
    if (this.#current === first && isLost && isAway && standbySigns) this.#change(standby);
    else if (this.#current === standby && isBack) this.#change(first);
    return this.#current;
  }

  of(issuerKeyId: string): Issuer {
    return named(this.all, issuerKeyId);
  }

  mayIssue(): boolean {
    return true;
  }

  isRevoked(): boolean {
    return false;
  }

  takeOverInSeconds(): number | undefined {
    const { first, standby, life, clock, afterMs } = this.#parts;
    if (this.current() !== first || this.#life !== undefined || life(standby.keyId) === undefined)
      return undefined;
    return Math.max(0, (this.#awaySince ?? 0) + afterMs - clock.monotonicMs()) / 1000;
  }

  /** True where the first does not sign, or went and came back since the last look. */
  #look(nowMs: number): boolean {
    const [before, life] = [this.#life, this.#parts.life(this.#parts.first.keyId)];
    if (life !== before) {
      this.#life = life;
      this.#signsSince = nowMs;
      this.#awaySince ??= nowMs;
    } else if (life !== undefined && nowMs - this.#signsSince >= steadyMs) this.#awaySince = undefined;
    return life === undefined || (before !== undefined && life !== before);
  }

  #change(issuer: Issuer): void {
    this.#current = issuer;
    this.#parts.changed(issuer);
  }
}

function named(issuers: readonly Issuer[], keyId: string): Issuer {
  const found = issuers.find((issuer) => issuer.keyId === keyId);
  if (found) return found;
  throw new VouchError('integrity-state', `the issuer ${keyId} is not one of this state`);
}
