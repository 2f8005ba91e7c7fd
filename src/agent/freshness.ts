import type { RenewWorkloads } from '../wire/watch.ts';
import type { BundleJson } from '../wire/enrollment.ts';
import { refreshBundle } from './bundle-keeper.ts';
import { CrlKeeper } from './crl-keeper.ts';
import type { Change } from './deliver/hook.ts';
import type { Held } from './held.ts';
import type { AgentParts } from './obtain.ts';
import { keepRenewed } from './renewer.ts';
import { type Sleep, systemSleep } from './sleep.ts';
import { handOn, type Told } from './told.ts';
import { Watcher } from './watcher.ts';

/** Where the identity is, what another one is enrolled with, and how often CRLs are asked for while nobody tells of them. */
export interface FreshOptions {
  dir: string;
  joinFile: string;
  crlRefreshMs: number;
}

/** What an identity is kept fresh with, and who hears of it. */
export interface FreshParts extends AgentParts {
  /** One attempt to renew, or to enroll again where a new join file is there. */
  attempt: () => Promise<Held>;
  renewed: (held: Held) => void;
  /** The attempt failed; there will be another. */
  failed?: (error: unknown) => void;
  /** When to renew, by the wall clock. */
  dueMs?: (held: Held) => number;
  /** What is held is revoked, as a CRL or the server says; again with each look. */
  revoked: (detail: string) => void;
  /** Files of the current generation changed. */
  changed: (change: Change) => void;
  /** A newer CRL is known, whether it is written or not. */
  crlKnown?: () => void;
  /** Fetched because the server told of it; verified. */
  bundle?: (bundle: BundleJson) => void;
  /** Sequence of the bundle that `bundle` was last called with. */
  bundleSequence?: () => number;
  /** Entries that name us as parent have this sequence. */
  entries?: (sequence: number) => void;
  /** An operator asks that what we hold for workloads be renewed. */
  renewWorkloads?: (order: RenewWorkloads) => void;
  /** Whether the server tells of changes. */
  live?: (isLive: boolean) => void;
  sleep?: Sleep;
}

/** An identity that is kept fresh. */
export interface Freshness {
  keeper: CrlKeeper;
  /** Has it renewed within some seconds. */
  renewSoon: () => void;
  /** Until the signal aborts; never ends by a failure. */
  run: () => Promise<void>;
}

/** Renewal, CRLs, the trust bundle and what else the server tells, for the identity in `dir`. */
export function freshness(
  held: Held,
  { dir, joinFile, crlRefreshMs }: FreshOptions,
  parts: FreshParts,
): Freshness {
  const { clock, notice, signal, exclusively, revoked, sleep = systemSleep } = parts;
  const keeper = new CrlKeeper(held, {
    ...{ dir, clock, signal, notice, exclusively, revoked, sleep },
    everyMs: crlRefreshMs,
    changed: parts.changed,
    ...(parts.crlKnown && { known: parts.crlKnown }),
  });
  let order = (): void => undefined;
  const refresh = async (sequence: number): Promise<void> => {
    try {
      const bundle = await refreshBundle(dir, sequence, parts, parts.bundleSequence?.());
      if (bundle === undefined) return;
      parts.bundle?.(bundle);
      // Bundle and the root's CRL come of one ceremony.
      keeper.askNow();
    } catch (error) {
      if (!signal.aborted) notice(`the trust bundle cannot be had: ${String(error)}; a renewal brings it`);
    }
  };
  const told: Told = {
    crl: (event) => void keeper.take(event),
    bundle: (sequence) => void refresh(sequence),
    renew: () => order(),
    entries: (sequence) => parts.entries?.(sequence),
    renewWorkloads: (order) => parts.renewWorkloads?.(order),
    notice,
  };
  const watcher = new Watcher(held, {
    ...{ clock, signal, notice, revoked, sleep },
    event: (event) => handOn(event, told),
    live: (isLive) => {
      keeper.live(isLive);
      parts.live?.(isLive);
    },
  });
  const renewed = (fresh: Held): void => {
    parts.renewed(fresh);
    keeper.adopt(fresh);
    watcher.adopt(fresh);
    notice(
      `renewed: serial ${fresh.delivered.leaf.serial}, valid until ${new Date(fresh.delivered.leaf.notAfterMs).toISOString()}`,
    );
  };
  const { attempt } = parts;
  const ordered = (take: () => void): void => void (order = take);
  const run = async (): Promise<void> => {
    await Promise.all([
      keeper.run(),
      watcher.run(),
      keepRenewed(held, { ...parts, joinFile, attempt, renewed, revoked, ordered }),
    ]);
  };
  return { keeper, renewSoon: () => order(), run };
}
