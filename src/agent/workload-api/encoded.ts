import { type Frame, frameOfParts } from '../grpc/frame.ts';
import type { Served, Svid } from '../workloads.ts';
import { jwtBundlesResponse, x509BundlesResponse, x509SvidResponse } from './messages.ts';

/** What a stream carries. */
export type Topic = 'x509-svid' | 'x509-bundles' | 'jwt-bundles';

const encoders: Readonly<Record<Topic, (svids: readonly Svid[], served: Served) => Uint8Array[]>> = {
  'x509-svid': (svids, { trust }) => x509SvidResponse(svids, trust),
  'x509-bundles': (_svids, { trust }) => x509BundlesResponse(trust),
  'jwt-bundles': (_svids, { trust }) => jwtBundlesResponse(trust),
};

/**
 * Each message once, for all streams that get it, also after a change that does not touch it: a stream compares by
 * identity what it has sent.
 */
export class Encoded {
  #served: Served | undefined;
  #frames = new Map<string, Frame>();
  #before = new Map<string, Frame>();

  /** The frame for who is given `svids` of `served`. */
  of(topic: Topic, svids: readonly Svid[], served: Served): Frame {
    if (served !== this.#served) {
      this.#served = served;
      this.#before = this.#frames;
      this.#frames = new Map();
    }
    const key = [topic, ...(topic === 'x509-svid' ? svids.map((svid) => svid.entryId) : [])].join();
    const found = this.#frames.get(key);
    if (found !== undefined) return found;
    const made = frameOfParts(encoders[topic](svids, served));
    const before = this.#before.get(key);
    const kept = before !== undefined && areEqual(before, made) ? before : made;
    this.#frames.set(key, kept);
    return kept;
  }
}

function areEqual(one: Frame, other: Frame): boolean {
  return one.length === other.length && one.every((part, index) => part.equals(other[index] ?? Buffer.of()));
}
