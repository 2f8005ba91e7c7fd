import { type Clock, rfc3339 } from '../../core/clock.ts';
import type { VouchError } from '../../core/errors.ts';
import type { Serial } from '../../core/serial.ts';
import type { SpiffeId } from '../../core/spiffe-id.ts';
import type { RenewWorkloads } from '../../wire/watch.ts';
import type { InclusionProofJson } from '../../wire/enrollment.ts';
import { toleratedSkewMs } from '../answer.ts';
import { type Moment, momentOf } from '../moment.ts';
import type { Svid, Withheld } from '../workloads.ts';
import type { AgentEntry } from './entry.ts';

/** A certificate with its key, held for an entry. */
export interface HeldSvid {
  entryVersion: number;
  spiffeId: SpiffeId;
  /** DER, leaf first, then issuers, without the root. */
  chain: readonly Buffer[];
  /** DER, PKCS#8. */
  keyPkcs8: Buffer;
  serial: Serial;
  notBeforeMs: number;
  notAfterMs: number;
  issuerKeyId: string;
  proof: InclusionProofJson;
  /** When the server would have it renewed, by the wall clock. */
  renewal: { earliestMs: number; latestMs: number };
}

/** What became of the last attempt for an entry. */
export interface SvidFailure {
  code: string;
  detail: string;
  atMs: number;
}

/** A registration entry, what is held for it, and when to ask next. */
export class SvidSlot {
  entry: AgentEntry;
  held: HeldSvid | undefined;
  /** When to ask, as long as the entry is not suspended. */
  due: Moment;
  /** Whether what is due is the renewal of what is held, which may come a little sooner, too. */
  isRenewal = false;
  failures = 0;
  failure: SvidFailure | undefined;
  /** The server had its say on this one, whatever it was. */
  isTried = false;
  /** The server would not take what is held as the predecessor of anything. */
  isWithoutPredecessor = false;
  /** The last one, where it was revoked and there is no other since. */
  #revoked: Serial | undefined;
  #svid: { of: HeldSvid; entry: AgentEntry; svid: Svid } | undefined;

  constructor(entry: AgentEntry, clock: Clock) {
    this.entry = entry;
    this.due = momentOf(0, clock);
  }

  /** The certificate that this one would replace, where there is one that the server knows as valid. */
  predecessor(nowMs: number): Serial | undefined {
    const { held } = this;
    return held === undefined || this.isWithoutPredecessor || nowMs > held.notAfterMs
      ? undefined
      : held.serial;
  }

  /** What is held and can be served; the same object while nothing of it changes. */
  svid(nowMs: number): Svid | undefined {
    const { held, entry } = this;
    if (held === undefined || entry.suspended || held.spiffeId !== entry.spiffeId) return undefined;
    if (nowMs + toleratedSkewMs < held.notBeforeMs || nowMs > held.notAfterMs + 999) return undefined;
    if (this.#svid?.of !== held || this.#svid.entry !== entry)
      this.#svid = { of: held, entry, svid: svidOf(entry, held) };
    return this.#svid.svid;
  }

  /** The entry, where `svid` is undefined. */
  withheld(nowMs: number): Withheld {
    const { entryId, spiffeId, selectors } = this.entry;
    return { entryId, spiffeId, selectors, why: this.#whyWithheld(nowMs) };
  }

  #whyWithheld(nowMs: number): string {
    const { entry, held, failure } = this;
    if (entry.suspended) return 'the entry is suspended (`vouch entry resume` lifts that)';
    if (failure !== undefined) return `${failure.detail} [${failure.code}, ${rfc3339(failure.atMs)}]`;
    if (held === undefined && this.#revoked !== undefined)
      return `its certificate, serial ${this.#revoked}, is revoked; the server has not given another yet`;
    if (held === undefined || held.spiffeId !== entry.spiffeId) return 'the server has not given one yet';
    if (nowMs > held.notAfterMs) return `the last one ended at ${rfc3339(held.notAfterMs)}`;
    return `by the clock of this host it is not valid before ${rfc3339(held.notBeforeMs)}`;
  }

  /** Takes a new certificate, to be renewed at a random moment of its window. */
  adopt(held: HeldSvid, clock: Clock, random: () => number): void {
    const { earliestMs, latestMs } = held.renewal;
    this.held = held;
    this.due = momentOf(earliestMs + random() * (latestMs - earliestMs) - clock.now(), clock);
    this.isRenewal = true;
    this.isWithoutPredecessor = false;
    this.failures = 0;
    this.failure = undefined;
    this.#revoked = undefined;
  }

  /** What is held counts no more: a fresh one is due, in a lineage of its own. */
  drop(clock: Clock): void {
    this.held = undefined;
    this.askAt(momentOf(0, clock));
  }

  /** As `drop`, because it is revoked. */
  dropRevoked(serial: Serial, clock: Clock): void {
    this.#revoked = serial;
    this.drop(clock);
  }

  askAt(due: Moment): void {
    this.due = due;
    this.isRenewal = false;
  }

  failed({ code, detail }: VouchError, clock: Clock, afterMs: number): void {
    this.failures += 1;
    this.failure = { code, detail, atMs: clock.now() };
    this.askAt(momentOf(afterMs, clock));
  }

  /** Whether an order to renew is about what is held. */
  isMeant({ before, spiffeId, entryId, issuerKeyId }: RenewWorkloads): boolean {
    const { entry, held } = this;
    return (
      held !== undefined &&
      held.proof.index < before &&
      (spiffeId ?? held.spiffeId) === held.spiffeId &&
      (entryId ?? entry.entryId) === entry.entryId &&
      (issuerKeyId ?? held.issuerKeyId) === held.issuerKeyId
    );
  }

  /** For status and log. */
  get description(): string {
    const { entry, held } = this;
    const until = held === undefined ? 'nothing held' : `held until ${rfc3339(held.notAfterMs)}`;
    return `${entry.spiffeId} (entry ${entry.entryId}, ${until})`;
  }
}

function svidOf(entry: AgentEntry, held: HeldSvid): Svid {
  const { entryVersion, spiffeId, chain, keyPkcs8, serial, notBeforeMs, notAfterMs, issuerKeyId, proof } =
    held;
  return Object.freeze({
    entryId: entry.entryId,
    ...{ entryVersion, spiffeId, chain, keyPkcs8, serial, notBeforeMs, notAfterMs, issuerKeyId, proof },
    hint: entry.hint,
    selectors: entry.selectors,
    allowedClients: entry.allowedClients,
  });
}
