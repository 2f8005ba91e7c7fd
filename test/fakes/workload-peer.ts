import type { WorkloadPeer } from '../../src/attestation/workload/peer.ts';

/** A peer that lives until it is told otherwise. */
export class FakePeer implements WorkloadPeer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  alive = true;
  closed = false;

  constructor(who: { pid?: number; uid?: number; gid?: number } = {}) {
    this.pid = who.pid ?? 4711;
    this.uid = who.uid ?? 1000;
    this.gid = who.gid ?? 1000;
  }

  isAlive(): boolean {
    return this.alive && !this.closed;
  }

  close(): void {
    this.closed = true;
  }
}
