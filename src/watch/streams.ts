import { VouchError } from '../core/errors.ts';
import type { Holder } from './ring.ts';

/** Where a stream's bytes go. */
export interface Sink {
  write(bytes: Buffer): void;
  /** Bytes that were written and that the network has not taken. */
  readonly unread: number;
  /** Ends the stream behind `last`; at once where nobody reads. */
  end(last: Buffer): void;
  /** Cuts the connection. */
  cut(): void;
}

/** An open stream. */
export interface Stream {
  readonly holder: Holder;
  readonly sink: Sink;
  /** Position in the ring of what it is sent next. */
  at: number;
  /** By `performance.now`. */
  nextBeatMs: number;
  /** Heartbeats in a row that found bytes unread. */
  unreadBeats: number;
}

/** The open streams, within their bounds. */
export class Streams {
  readonly #limits: { streams: number; streamsOfIdentity: number; streamsOfCertificate: number };
  readonly #all = new Set<Stream>();
  readonly #byCertificate = new Map<string, Set<Stream>>();
  readonly #ofIdentity = new Map<string, number>();

  constructor(limits: { streams: number; streamsOfIdentity: number; streamsOfCertificate: number }) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#all.size;
  }

  [Symbol.iterator](): Iterator<Stream> {
    return this.#all.values();
  }

  ofCertificate(certificate: Pick<Holder, 'issuerKeyId' | 'serial'>): Stream[] {
    return [...(this.#byCertificate.get(keyOf(certificate)) ?? [])];
  }

  /** Throws `unavailable-overloaded` or `unavailable-rate-limited`. */
  add(stream: Stream): void {
    const { holder } = stream;
    const mine = this.#byCertificate.get(keyOf(holder)) ?? new Set();
    const [oldest] = mine;
    if (oldest && mine.size >= this.#limits.streamsOfCertificate) {
      this.delete(oldest);
      oldest.sink.cut();
    }
    const ofIdentity = this.#ofIdentity.get(holder.spiffeId) ?? 0;
    if (ofIdentity >= this.#limits.streamsOfIdentity)
      throw new VouchError('unavailable-rate-limited', 'this identity has too many streams open', {
        retryAfterSeconds: 30 + Math.random() * 30,
      });
    if (this.#all.size >= this.#limits.streams)
      throw new VouchError('unavailable-overloaded', 'too many streams are open; poll, and try again later', {
        retryAfterSeconds: 30 + Math.random() * 30,
      });
    this.#all.add(stream);
    this.#byCertificate.set(keyOf(holder), mine.add(stream));
    this.#ofIdentity.set(holder.spiffeId, ofIdentity + 1);
  }

  /** Once it is gone, nothing more happens. */
  delete(stream: Stream): void {
    if (!this.#all.delete(stream)) return;
    const { holder } = stream;
    const mine = this.#byCertificate.get(keyOf(holder));
    mine?.delete(stream);
    if (mine?.size === 0) this.#byCertificate.delete(keyOf(holder));
    const left = (this.#ofIdentity.get(holder.spiffeId) ?? 1) - 1;
    if (left > 0) this.#ofIdentity.set(holder.spiffeId, left);
    else this.#ofIdentity.delete(holder.spiffeId);
  }
}

function keyOf({ issuerKeyId, serial }: Pick<Holder, 'issuerKeyId' | 'serial'>): string {
  return `${issuerKeyId}:${serial}`;
}
