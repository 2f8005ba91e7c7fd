import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import { Slice } from '../../jobs/slice.ts';
import type { Frame } from '../grpc/frame.ts';
import { GrpcError, GrpcStatus, type Opened, type Out } from '../grpc/server.ts';
import { askedBy } from '../recognised.ts';
import { type Served, type Svid, svidsFor, type Workloads } from '../workloads.ts';
import { Encoded, type Topic } from './encoded.ts';

/** Who is told what. */
interface Listener {
  readonly topic: Topic;
  readonly peer: WorkloadPeer;
  readonly out: Out;
}

/** A listener that is told what changes. There are thousands: each field and closure counts. */
class Stream implements Listener, Opened {
  readonly topic: Topic;
  readonly peer: WorkloadPeer;
  readonly out: Out;
  group: Group;
  /** What the entries asked for when its peer was looked at. */
  asked: string;
  sent: Frame | undefined;
  /** Runs while the stream has no identity any more. */
  lost: NodeJS.Timeout | undefined;
  readonly #streams: Streams;

  constructor({ topic, peer, out }: Listener, group: Group, asked: string, streams: Streams) {
    this.topic = topic;
    this.peer = peer;
    this.out = out;
    this.group = group;
    this.asked = asked;
    this.#streams = streams;
  }

  closed(): void {
    this.#streams.forget(this);
  }
}

/** The streams of workloads that show the same selectors, and so are told the same. */
interface Group {
  readonly key: string;
  readonly selectors: ReadonlySet<string>;
  streams: number;
  /** Of `served`. */
  svids: readonly Svid[];
  served: Served | undefined;
}

/**
 * How long a stream that had an identity is kept without one: a revoked certificate has a successor in a moment, and SDKs
 * wait a second or more after a stream that ended.
 */
const lostMs = 750;
/** Peers that are looked at again at one time. */
const looksMax = 16;

/** The open streams of the Workload API. Each is told the whole state that is its own, again when that has changed. */
export class Streams {
  readonly #workloads: Workloads;
  readonly #look: (peer: WorkloadPeer) => Promise<ReadonlySet<string>>;
  readonly #groups = new Map<string, Group>();
  readonly #streams = new Set<Stream>();
  readonly #encoded = new Encoded();
  readonly #unsubscribe: () => void;
  #isDelivering = false;
  #isStale = false;

  constructor(workloads: Workloads, look: (peer: WorkloadPeer) => Promise<ReadonlySet<string>>) {
    this.#workloads = workloads;
    this.#look = look;
    this.#unsubscribe = workloads.subscribe(() => this.#deliver());
  }

  get size(): number {
    return this.#streams.size;
  }

  /** Tells the stream the present state, and keeps it until it is closed. Throws PermissionDenied. */
  open(listener: Listener, selectors: ReadonlySet<string>, served: Served): Opened {
    const stream = new Stream(listener, this.#groupOf(selectors), askedBy(served), this);
    this.#tell(stream, served);
    this.#streams.add(stream);
    this.#join(stream, stream.group);
    return stream;
  }

  forget(stream: Stream): void {
    clearTimeout(stream.lost);
    if (this.#streams.delete(stream)) this.#leave(stream);
  }

  /** Tells nobody any more. */
  close(): void {
    this.#unsubscribe();
  }

  #deliver(): void {
    this.#isStale = true;
    if (!this.#isDelivering) void this.#deliverAll();
  }

  /** In slices, so that a thousand streams do not keep the renewer waiting; always what is served now. */
  async #deliverAll(): Promise<void> {
    this.#isDelivering = true;
    const slice = new Slice();
    while (this.#isStale) {
      this.#isStale = false;
      const looks: Promise<void>[] = [];
      for (const stream of this.#streams) {
        const served = this.#workloads.now;
        if (served === undefined) break;
        if (stream.asked === askedBy(served)) this.#tellOrEnd(stream, served);
        else looks.push(this.#lookAgain(stream));
        if (looks.length === looksMax) await Promise.all(looks.splice(0));
        if (slice.isOver) await slice.turn();
      }
      await Promise.all(looks);
    }
    this.#isDelivering = false;
  }

  /** Entries ask for what was not looked at. */
  async #lookAgain(stream: Stream): Promise<void> {
    try {
      const before = this.#workloads.now;
      const selectors = await this.#look(stream.peer);
      const served = this.#workloads.now;
      if (!this.#streams.has(stream) || before === undefined || served === undefined) return;
      // Else there is a change that is told next.
      if (askedBy(before) !== askedBy(served)) return;
      this.#leave(stream);
      this.#join(stream, this.#groupOf(selectors));
      stream.asked = askedBy(served);
      this.#tellOrEnd(stream, served);
    } catch (error) {
      this.#end(stream, error);
    }
  }

  #tellOrEnd(stream: Stream, served: Served): void {
    try {
      this.#tell(stream, served);
      clearTimeout(stream.lost);
      stream.lost = undefined;
    } catch (error) {
      if (stream.lost === undefined && stream.peer.isAlive())
        stream.lost = setTimeout(() => this.#end(stream, error), lostMs);
      else if (stream.lost === undefined) this.#end(stream, error);
    }
  }

  #tell(stream: Stream, served: Served): void {
    const { group } = stream;
    if (group.served !== served) {
      group.svids = svidsFor(served, group.selectors);
      group.served = served;
    }
    if (group.svids.length === 0 || !stream.peer.isAlive()) throw noIdentity();
    const frame = this.#encoded.of(stream.topic, group.svids, served);
    if (frame === stream.sent) return;
    stream.sent = frame;
    stream.out.send(frame);
  }

  #end(stream: Stream, error: unknown): void {
    this.forget(stream);
    const isKnown = error instanceof GrpcError;
    stream.out.end(isKnown ? error : new GrpcError(GrpcStatus.internal, 'internal error'));
  }

  #groupOf(selectors: ReadonlySet<string>): Group {
    // A path may hold any character but NUL.
    const key = JSON.stringify([...selectors].sort());
    return this.#groups.get(key) ?? { key, selectors, streams: 0, svids: [], served: undefined };
  }

  #join(stream: Stream, group: Group): void {
    stream.group = group;
    group.streams += 1;
    this.#groups.set(group.key, group);
  }

  #leave({ group }: Stream): void {
    group.streams -= 1;
    if (group.streams === 0 && this.#groups.get(group.key) === group) this.#groups.delete(group.key);
  }
}

/** The answer to who is nobody here; says nothing about why. */
export function noIdentity(): GrpcError {
  return new GrpcError(GrpcStatus.permissionDenied, 'no identity issued');
}
