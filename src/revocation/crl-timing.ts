/** How often and for how long. */
export interface CrlTiming {
  /** nextUpdate − thisUpdate. */
  validitySeconds: number;
  /** Shortest time between two publications: revocations within it share one. */
  batchMs: number;
  /** How far thisUpdate may lie in the past: the budget that bursts draw on (I5). */
  backdateSeconds: number;
}

/** Defaults; docs/defaults.md has the reasons. */
export const defaultCrlTiming: CrlTiming = { validitySeconds: 24 * 3600, batchMs: 200, backdateSeconds: 60 };

/** Sizes at which publication changes its ways. */
export interface CrlBounds {
  /** A full CRL above this has a lane of its own, so that no shard waits for it. */
  smallBytes: number;
  /** A delta above this many entries asks for a new base. */
  deltaMaxEntries: number;
}

/** Defaults; docs/adr/011 has the reasons. */
export const defaultCrlBounds: CrlBounds = { smallBytes: 1024 * 1024, deltaMaxEntries: 10_000 };
