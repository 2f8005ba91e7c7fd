import type { WorkloadPeer } from '../../attestation/workload/peer.ts';
import { Slice } from '../../jobs/slice.ts';
import { GrpcError, GrpcStatus, type Out } from '../grpc/server.ts';
import { type Served, svidsFor, type Workloads } from '../workloads.ts';
import { Encoded, type Topic } from './encoded.ts';

/** A stream with what it was told last. */
interface Stream {
  readonly topic: Topic;
  readonly peer: WorkloadPeer;
  readonly out: Out;
  sent: Buffer | undefined;
}

/** The streams of workloads that show the same selectors, and so are told the same. */
interface Group {
  readonly selectors: ReadonlySet<string>;
  readonly streams: Set<Stream>;
}

/** The open streams of the Workload API. Each is told the whole state that is its own, again when that has changed. */
export class Streams {
  readonly #workloads: Workloads;
  readonly #groups = new Map<string, Group>();
  readonly #encoded = new Encoded();
  readonly #unsubscribe: () => void;
  #delivering: Promise<void> | undefined;
  #isStale = false;

  constructor(workloads: Workloads) {
    this.#workloads = workloads;
    this.#unsubscribe = workloads.subscribe(() => this.#deliver());
  }

  get size(): number {
    return [...this.#groups.values()].reduce((sum, { streams }) => sum + streams.size, 0);
  }

  /** Tells the stream the present state, and keeps it until what is returned is called. Throws PermissionDenied. */
  open(
    topic: Topic,
    peer: WorkloadPeer,
    selectors: ReadonlySet<string>,
    served: Served,
    out: Out,
  ): () => void {
    const key = [...selectors].sort().join('\n');
    const group = this.#groups.get(key) ?? { selectors, streams: new Set() };
    const stream: Stream = { topic, peer, out, sent: undefined };
    this.#tell(stream, group, served);
    this.#groups.set(key, group);
    group.streams.add(stream);
    return () => {
      group.streams.delete(stream);
      if (group.streams.size === 0 && this.#groups.get(key) === group) this.#groups.delete(key);
    };
  }

  /** Tells nobody any more. */
  close(): void {
    this.#unsubscribe();
  }

  #deliver(): void {
    this.#isStale = true;
    this.#delivering ??= this.#deliverAll().finally(() => {
      this.#delivering = undefined;
    });
  }

  /** In slices, so that a thousand streams do not keep the renewer waiting; always what is served now. */
  async #deliverAll(): Promise<void> {
    const slice = new Slice();
    while (this.#isStale) {
      this.#isStale = false;
      for (const group of [...this.#groups.values()])
        for (const stream of [...group.streams]) {
          if (!group.streams.has(stream)) continue;
          this.#tellAgain(stream, group);
          if (slice.isOver) await slice.turn();
        }
    }
  }

  #tellAgain(stream: Stream, group: Group): void {
    const served = this.#workloads.now;
    if (served === undefined) return;
    try {
      this.#tell(stream, group, served);
    } catch (error) {
      group.streams.delete(stream);
      stream.out.end(
        error instanceof GrpcError ? error : new GrpcError(GrpcStatus.internal, 'internal error'),
      );
    }
  }

  #tell(stream: Stream, { selectors }: Group, served: Served): void {
    const svids = svidsFor(served, selectors);
    if (svids.length === 0 || !stream.peer.isAlive()) throw noIdentity();
    const frame = this.#encoded.of(stream.topic, svids, served);
    if (frame === stream.sent) return;
    stream.sent = frame;
    stream.out.send(frame);
  }
}

/** The answer to who is nobody here; says nothing about why. */
export function noIdentity(): GrpcError {
  return new GrpcError(GrpcStatus.permissionDenied, 'no identity issued');
}
