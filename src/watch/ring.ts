import type { CertificateStanding } from '../store/records.ts';

/** Whose stream it is: the certificate that was shown. */
export type Holder = Pick<
  CertificateStanding,
  'issuerKeyId' | 'serial' | 'spiffeId' | 'entryId' | 'agent' | 'leafIndex' | 'notAfterMs'
>;

/** An event, encoded once for everybody. */
export interface RingEvent {
  /** Index of its leaf in the log. Events come in the order in which they were published, which may be another. */
  id: number;
  bytes: Buffer;
  /** Undefined: everybody. */
  concerns?: ((holder: Holder) => boolean) | undefined;
}

/** What a ring may hold; past either, the oldest event leaves. */
export interface RingBounds {
  events: number;
  bytes: number;
}

/** The newest events by position, which only rises: what a stream has yet to be sent, and what one that comes back missed. */
export class EventRing {
  readonly #bounds: RingBounds;
  readonly #events: RingEvent[] = [];
  #first = 0;
  #bytes = 0;

  constructor(bounds: RingBounds) {
    this.#bounds = bounds;
  }

  /** Position behind the newest event. */
  get head(): number {
    return this.#first + this.#events.length;
  }

  get newest(): RingEvent | undefined {
    return this.#events.at(-1);
  }

  /** Undefined where it has left or has not come yet. */
  at(position: number): RingEvent | undefined {
    return this.#events[position - this.#first];
  }

  /** Position behind the first event of this id; undefined where there is none, so that it is not known what was missed. */
  behind(id: number): number | undefined {
    const index = this.#events.findIndex((event) => event.id === id);
    return index < 0 ? undefined : this.#first + index + 1;
  }

  /** Bytes of the events from a position on. */
  bytesFrom(position: number): number {
    return this.#events.slice(position - this.#first).reduce((sum, { bytes }) => sum + bytes.length, 0);
  }

  add(event: RingEvent): void {
    this.#events.push(event);
    this.#bytes += event.bytes.length;
    while (this.#events.length > this.#bounds.events || this.#bytes > this.#bounds.bytes) {
      const left = this.#events.shift();
      if (!left) break;
      this.#first += 1;
      this.#bytes -= left.bytes.length;
    }
  }
}
