import { setImmediate as aTurn } from 'node:timers/promises';
import { VouchError } from '../core/errors.ts';
import { Slice } from '../jobs/slice.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';
import { heartbeatSeconds } from '../wire/watch.ts';
import { comeBackWithin, heartbeat, seenUpTo } from './encoding.ts';
import { EventRing, type Holder, type RingBounds, type RingEvent } from './ring.ts';
import { type Sink, type Stream, Streams } from './streams.ts';

/** What the hub may hold. */
export interface WatchLimits {
  ring: RingBounds;
  streams: number;
  /** Of one SPIFFE ID: replicas of a workload share one. */
  streamsOfIdentity: number;
  /** Of one certificate; past it the oldest is ended, which as a rule is one whose network went away. */
  streamsOfCertificate: number;
  /** Bytes that a stream may leave unread when the next event comes. */
  unreadBytes: number;
}

const defaultWatchLimits: WatchLimits = {
  ring: { events: 1024, bytes: 16 * 1024 * 1024 },
  // Of a listener with 20,000 connections.
  streams: 12_000,
  streamsOfIdentity: 2_000,
  streamsOfCertificate: 4,
  unreadBytes: 256 * 1024,
};

/** Heartbeats that may find bytes unread before the stream is cut. */
const unreadBeatsMax = 3;
const beatMs = heartbeatSeconds * 1000;

interface Parts {
  store: Pick<StoreReader, 'certificate'>;
  /** Wall clock as it is believed, Unix milliseconds. */
  timeMs: () => number;
  /** What of the present state concerns this holder alone, encoded events. */
  ofHolder?: (holder: Holder) => Buffer[];
  limits?: Partial<WatchLimits>;
}

/**
 * Hands events to every open stream, in the order in which they were published. An event is encoded once; a stream is no
 * more than its place in the ring, so who reads slowly is cut and costs no memory.
 */
export class WatchHub {
  readonly #parts: Parts;
  readonly #limits: WatchLimits;
  readonly #ring: EventRing;
  readonly #streams: Streams;
  /** The present state, an encoded event for each part of it: what who has missed something is told. */
  readonly #state = new Map<string, Buffer>();
  /** Orders to renew. */
  readonly #orders: RingEvent[] = [];
  #delivering: Promise<void> | undefined;
  #closed = false;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#limits = { ...defaultWatchLimits, ...parts.limits };
    this.#ring = new EventRing(this.#limits.ring);
    this.#streams = new Streams(this.#limits);
  }

  get size(): number {
    return this.#streams.size;
  }

  /**
   * Begins a stream: with what came since the event `lastEventId`, or with the present state where that cannot be told.
   * Throws `unavailable-overloaded`, `unavailable-rate-limited` or `unavailable-stopping`, and has written nothing then.
   * Returns what to call when the stream has closed.
   */
  open(holder: Holder, sink: Sink, lastEventId: number | undefined): () => void {
    if (this.#closed)
      throw new VouchError('unavailable-stopping', 'the server is stopping; come back', {
        retryAfterSeconds: 1,
      });
    const seen = this.#positionBehind(lastEventId);
    // The first heartbeat at a random moment: who came at one moment is not served at one moment for ever.
    const nextBeatMs = performance.now() + Math.random() * beatMs;
    const stream = { holder, sink, at: seen ?? this.#ring.head, nextBeatMs, unreadBeats: 0 };
    this.#streams.add(stream);
    sink.write(seen === undefined ? this.#snapshot(holder) : this.#comeBack());
    this.#catchUp(stream);
    return () => this.#streams.delete(stream);
  }

  /** Sets a part of the present state, told to those who come; and `event` to those who are there or come back. */
  announce(part: string, state: Buffer, event?: RingEvent): void {
    this.#state.set(part, state);
    if (event) this.publish(event);
  }

  publish(event: RingEvent): void {
    this.#ring.add(event);
    this.#delivering ??= this.#deliver();
  }

  /** How many streams there are of whom this concerns. */
  count(concerns: (holder: Holder) => boolean): number {
    return [...this.#streams].filter(({ holder }) => concerns(holder)).length;
  }

  /** An order to renew: also for who comes later. */
  order(order: RingEvent): void {
    this.#orders.push(order);
    if (this.#orders.length > this.#limits.ring.events) this.#orders.shift();
    this.publish(order);
  }

  /** Cuts the streams of a certificate at once. */
  endCertificate(certificate: Pick<Holder, 'issuerKeyId' | 'serial'>): void {
    for (const stream of this.#streams.ofCertificate(certificate)) this.#cut(stream);
  }

  /** Cuts the streams of every certificate of an entry, once they were sent what was published. */
  async endEntry(entryId: string): Promise<void> {
    await this.#delivering;
    await this.#cutThose((holder) => holder.entryId === entryId);
  }

  /** Cuts the streams of every certificate of issuers that the root has revoked. */
  async endIssuers(isRevoked: (issuerKeyId: string) => boolean): Promise<void> {
    await this.#cutThose((holder) => isRevoked(holder.issuerKeyId));
  }

  /** Heartbeats that are due, and the end of what no longer counts. To be called several times a second. */
  async tick(): Promise<void> {
    const nowMs = this.#parts.timeMs();
    const slice = new Slice();
    for (const stream of this.#streams) {
      if (nowMs > stream.holder.notAfterMs + 999) this.#cut(stream);
      else if (performance.now() >= stream.nextBeatMs) this.#beat(stream);
      if (slice.isOver) await slice.turn();
    }
  }

  /** Ends every stream, with a hint when to come back; none begins any more. */
  async close(): Promise<void> {
    this.#closed = true;
    const hint = this.#comeBack();
    const slice = new Slice();
    for (const stream of this.#streams) {
      this.#streams.delete(stream);
      stream.sink.end(hint);
      if (slice.isOver) await slice.turn();
    }
  }

  /** Again and again, until everybody has everything. */
  async #deliver(): Promise<void> {
    const slice = new Slice();
    for (let delivered = -1; delivered !== this.#ring.head; ) {
      // In the next turn: what is published at one moment goes out together.
      await aTurn();
      delivered = this.#ring.head;
      for (const stream of this.#streams) {
        this.#catchUp(stream);
        if (slice.isOver) await slice.turn();
      }
    }
    // In the same turn as the look at the ring, so that what comes next is delivered anew.
    this.#delivering = undefined;
  }

  /** Undefined also where more was missed than a stream may leave unread: the present state is less. */
  #positionBehind(id: number | undefined): number | undefined {
    const position = id === undefined ? undefined : this.#ring.behind(id);
    return position === undefined || this.#ring.bytesFrom(position) > this.#limits.unreadBytes
      ? undefined
      : position;
  }

  #catchUp(stream: Stream): void {
    while (stream.at < this.#ring.head) {
      const event = this.#ring.at(stream.at);
      if (!event || stream.sink.unread > this.#limits.unreadBytes) return this.#cut(stream);
      stream.at += 1;
      if (event.concerns?.(stream.holder) ?? true) stream.sink.write(event.bytes);
    }
  }

  #beat(stream: Stream): void {
    stream.nextBeatMs = performance.now() + beatMs;
    stream.unreadBeats = stream.sink.unread > 0 ? stream.unreadBeats + 1 : 0;
    const standing = this.#parts.store.certificate(stream.holder.issuerKeyId, stream.holder.serial);
    if (!counts(standing) || stream.unreadBeats >= unreadBeatsMax) this.#cut(stream);
    else if (stream.unreadBeats === 0) stream.sink.write(heartbeat);
  }

  async #cutThose(areOver: (holder: Holder) => boolean): Promise<void> {
    const slice = new Slice();
    for (const stream of this.#streams) {
      if (areOver(stream.holder)) this.#cut(stream);
      if (slice.isOver) await slice.turn();
    }
  }

  #cut(stream: Stream): void {
    this.#streams.delete(stream);
    stream.sink.cut();
  }

  #snapshot(holder: Holder): Buffer {
    const { newest } = this.#ring;
    const orders = this.#orders.filter((order) => order.concerns?.(holder)).map(({ bytes }) => bytes);
    return Buffer.concat([
      ...[this.#comeBack(), ...this.#state.values(), ...(this.#parts.ofHolder?.(holder) ?? []), ...orders],
      ...(newest ? [seenUpTo(newest.id)] : []),
    ]);
  }

  /** Two milliseconds for each: as fast as handshakes can be made when all of them come back at once. */
  #comeBack(): Buffer {
    return comeBackWithin(Math.max(1000, this.size * 2));
  }
}

/** I7: asked again and again while the stream is open. */
function counts(standing: CertificateStanding | undefined): boolean {
  return standing !== undefined && standing.revoked === undefined && !standing.entrySuspended;
}
