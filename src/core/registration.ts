import type { SpiffeId } from './spiffe-id.ts';

/** One attested fact; prints `type:value`, as in `unix:uid:1000` or `join_token:t_…`. */
export interface Selector {
  type: string;
  value: string;
}

/** Most entries of one parent, which reads them all at each change. */
export const entriesOfParentMax = 10_000;

/** `type:value`. */
export function selectorText(selector: Selector): string {
  return `${selector.type}:${selector.value}`;
}

/**
 * What the operator registered: whoever shows all `selectors` is `spiffeId`. Names, lifetime and usages come from
 * here and from the profile, never from a request (I4).
 */
export interface RegistrationEntry {
  entryId: string;
  spiffeId: SpiffeId;
  /** The agent that asks for it in the name of a workload; undefined: nobody but who shows the selectors himself. */
  parentId: SpiffeId | undefined;
  selectors: readonly Selector[];
  dnsNames: readonly string[];
  /** Textual IPv4 or IPv6 addresses. */
  ipAddresses: readonly string[];
  /** Who may call this workload: SPIFFE IDs, or a prefix ending in `/*`. Delivered as peers.json. */
  allowedClients: readonly string[];
  /** What tells a workload its identities apart (SPIFFE Workload API §5.2.1), at most 1024 bytes; '' for none. */
  hint: string;
  profile: string;
  /** Undefined: the profile's lifetime. */
  lifetimeSeconds: number | undefined;
  /** Raised by each change; checked again in the issuing transaction. */
  version: number;
  suspendedAtMs: number | undefined;
  createdAtMs: number;
}
