import type { Reason } from '../../../src/core/reasons.ts';
import type { Serial } from '../../../src/core/serial.ts';
import type { RevocationDraft } from '../../../src/store/port.ts';
import type { CrlRecord } from '../../../src/store/records.ts';

/** What is known of one certificate. */
export interface Certificate {
  serial: Serial;
  /** Content bytes of the serial, one character each. */
  key: string;
  shard: string;
  notAfterMs: number;
  /** The last event that is durable. */
  last: Event | undefined;
  /** It stood on a published scheduled CRL past its end: from then on it may leave. */
  hasStood: boolean;
}

/** When an entry counts as revoked: once fixed, for all events that follow up to a release. */
export interface EntryDate {
  seconds: number | undefined;
  /** No thisUpdate since its first event was earlier. */
  earliestSeconds: number;
}

/** A revocation, hold, worse reason or release, by the log. */
export interface Event {
  certificate: Certificate;
  leafIndex: number;
  reason: Reason;
  revokedAtMs: number;
  invalidityDateSeconds: number | undefined;
  /** Undefined of a release. */
  date: EntryDate | undefined;
  /** The entry that says so, once its date is fixed. */
  bytes: string | undefined;
}

const gravity: Readonly<Partial<Record<Reason, number>>> = {
  certificateHold: 1,
  unspecified: 2,
  affiliationChanged: 3,
  superseded: 3,
  cessationOfOperation: 3,
  privilegeWithdrawn: 4,
  keyCompromise: 5,
};

/** What a CRL was drafted for, by the transaction that gave it its number. */
export interface Drafted {
  scheduled: boolean;
  base: boolean;
  /** Unix milliseconds that it was drafted at. */
  nowMs: number;
}

/** What really happened, in the order of the log, and nothing of how the publisher comes to its lists. */
export class Model {
  readonly log: Event[] = [];
  /** Of each scope the newest event that has to come out on it. */
  readonly newest = new Map<string, Event>();
  readonly drafted = new Map<string, Drafted>();
  readonly #certificates = new Map<string, Certificate>();
  readonly #undated = new Set<EntryDate>();

  certificate(serial: Serial, shard: number, notAfterMs: number): Certificate {
    const key = Buffer.from(serial, 'hex').toString('latin1');
    const made = { serial, key, shard: String(shard), notAfterMs, last: undefined, hasStood: false };
    const known = this.#certificates.get(key) ?? made;
    this.#certificates.set(key, known);
    return known;
  }

  of(key: string): Certificate | undefined {
    return this.#certificates.get(key);
  }

  /** Whether this may be said of what stands. */
  mayFollow(last: Event | undefined, reason: Reason): boolean {
    const stands = last?.date === undefined ? undefined : last.reason;
    if (reason === 'removeFromCRL') return stands === 'certificateHold';
    return stands === undefined || (gravity[reason] ?? 0) > (gravity[stands] ?? 0);
  }

  /** An event is durable; returns what is wrong with that. */
  recorded(draft: RevocationDraft, leafIndex: number, earliestSeconds: number): string[] {
    const { serial, shard, notAfterMs, reason, revokedAtMs, invalidityDateSeconds } = draft;
    const certificate = this.certificate(serial, shard, notAfterMs);
    const { last } = certificate;
    const problems = this.mayFollow(last, reason)
      ? []
      : [`${reason} follows ${last?.reason ?? 'nothing'} of ${serial}`];
    const isRelease = reason === 'removeFromCRL';
    const date = isRelease ? undefined : (last?.date ?? { seconds: undefined, earliestSeconds });
    if (date?.seconds === undefined && date) this.#undated.add(date);
    const event = { certificate, leafIndex, reason, revokedAtMs, invalidityDateSeconds, date };
    certificate.last = { ...event, bytes: undefined };
    this.log.push(certificate.last);
    if (!certificate.hasStood)
      for (const scope of ['full', 'delta', certificate.shard]) this.newest.set(scope, certificate.last);
    return problems;
  }

  /** A moment from which CRLs may be dated: the clock may have been set back. */
  earliest(seconds: number): void {
    for (const date of this.#undated)
      if (date.seconds !== undefined) this.#undated.delete(date);
      else date.earliestSeconds = Math.min(date.earliestSeconds, seconds);
  }

  draft(
    { scope, crlNumber, scheduled, base }: Pick<CrlRecord, 'scope' | 'crlNumber' | 'scheduled' | 'base'>,
    nowMs: number,
  ): void {
    this.drafted.set(`${scope} ${crlNumber}`, { scheduled, base, nowMs });
  }
}
