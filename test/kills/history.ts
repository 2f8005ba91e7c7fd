/**
 * What happened, as those saw it who use the authority. `atNs` is when, `sentNs` when the request was sent, both by the
 * machine's monotonic clock, which all processes share: of two events one surely came first where the `atNs` of one is
 * below the other's `sentNs`.
 */
export type KillsEvent = { atNs: number } & (
  | { kind: 'killed' | 'ready' | 'drained' }
  /** An operator was answered with a join token of one use. */
  | { kind: 'token'; tokenId: string }
  | ({ kind: 'certificate' } & ReceivedCertificate)
  /** An operator asks for a revocation. */
  | { kind: 'revoking' }
  | { kind: 'revoked'; sentNs: number; serials: string[]; published: boolean }
  /** `der` is absent where the bytes are the ones that this URL gave last. */
  | { kind: 'crl'; sentNs: number; url: string; der?: Buffer }
  /** The public one. */
  | { kind: 'checkpoint'; sentNs: number; note: string }
  /** Something no client may ever meet. */
  | { kind: 'fault'; verdict: Verdict; what: string }
);

/** A certificate that reached a client, wholly or in part. */
export interface ReceivedCertificate {
  sentNs: number;
  der: Buffer;
  /** The client checked the whole answer as an agent does, and keeps the certificate. */
  acked: boolean;
  /** The join token that it was asked for with. */
  tokenId?: string;
  /** Of an answer that was wholly read. */
  proof?: { index: number; timeMs: number; context: Buffer; checkpoint: string };
}

/** What the checker counts, and what is wrong besides. */
export type Verdict = 'lost' | 'duplicates' | 'orphans' | 'regressions' | 'faults';

/** An event without its time. Distributes over the kinds. */
type Untimed<Event = KillsEvent> = Event extends KillsEvent ? Omit<Event, 'atNs'> : never;

/** Nanoseconds by the machine's monotonic clock; exact for 104 days after its start. */
export function monotonicNs(): number {
  return Number(process.hrtime.bigint());
}

/** Notes when events are, and hands them on. */
export class History {
  readonly #send: (event: KillsEvent) => void;

  constructor(send: (event: KillsEvent) => void) {
    this.#send = send;
  }

  /** Returns the event's time. */
  record(event: Untimed): number {
    const atNs = monotonicNs();
    this.#send({ ...event, atNs });
    return atNs;
  }

  fault(verdict: Verdict, what: string): void {
    this.record({ kind: 'fault', verdict, what });
  }
}

/** What the clients' process is told at its start. */
export interface ClientsOrder {
  seed: number;
  clients: number;
  trustDomain: string;
  adminSocket: string;
  /** Of the authority: every process that works in it ends when the campaign is gone. */
  folder: string;
}

/** What the campaign tells the clients' process. */
export type Command =
  | { command: 'start'; order: ClientsOrder }
  /** End what is under way and begin nothing new. */
  | { command: 'drain' };
