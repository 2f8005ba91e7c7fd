import type { SpiffeId, TrustDomain } from '../core/spiffe-id.ts';
import type { InclusionProofJson } from '../wire/enrollment.ts';

/** An X.509-SVID that the agent holds for one of its registration entries. */
export interface Svid {
  entryId: string;
  entryVersion: number;
  spiffeId: SpiffeId;
  /** Of the Workload API; '' for none. */
  hint: string;
  /** DER, leaf first, then issuers, without the root. */
  chain: readonly Buffer[];
  /** DER, PKCS#8. */
  keyPkcs8: Buffer;
  serial: string;
  notBeforeMs: number;
  notAfterMs: number;
  issuerKeyId: string;
  proof: InclusionProofJson;
  /** `type:value`; a workload is given this SVID when it shows all of them. Never empty. */
  selectors: readonly string[];
  /** Who may call this workload: SPIFFE IDs, or prefixes ending in `/*`. */
  allowedClients: readonly string[];
}

/** Whom the trust domain's workloads trust, and whom no more. */
export interface Trust {
  trustDomain: TrustDomain;
  /** `spiffe_sequence` of the bundle. */
  sequence: number;
  /** DER. */
  roots: readonly Buffer[];
  /** DER of every issuer of the trust domain whose certificates peers may show. */
  issuers: readonly Buffer[];
  /** DER of the full CRL of each issuer and of the root. */
  crls: readonly Buffer[];
  /** Members of `keys` of the bundle whose use is `jwt-svid`. */
  jwtKeys: readonly { readonly [member: string]: unknown }[];
}

/** All that an agent serves; immutable, another object after each change. */
export interface Served {
  /** Those that are valid now, of the oldest entry first. */
  svids: readonly Svid[];
  trust: Trust;
}

/** A registration entry of this agent that nothing is served for now. */
export interface Withheld {
  entryId: string;
  spiffeId: SpiffeId;
  selectors: readonly string[];
  /** For the agent's log; completes "it has no certificate:". */
  why: string;
}

/** A JWT-SVID as it was signed. */
export interface MintedJwt {
  token: string;
  expiresAtMs: number;
}

/** The port between what the agent holds and what serves it to workloads. */
export interface Workloads {
  /** Undefined until there is something to serve. */
  readonly now: Served | undefined;
  /** What is not served now and why, for the agent's log; looked up when asked for. */
  withheld(): readonly Withheld[];
  /** Called at each change, in a turn of its own, never with the same object twice; returns what ends that. Must not throw. */
  subscribe(listener: (served: Served) => void): () => void;
  /** Has the server sign a JWT-SVID of an entry, or gives one that is not past half its life. Rejects with `denied-…` or `unavailable-…`. */
  mintJwt(entryId: string, audience: readonly string[]): Promise<MintedJwt>;
}

/** What a workload with these selectors is given: every SVID all of whose selectors it shows. The first is its default. */
export function svidsFor(served: Served, selectors: ReadonlySet<string>): readonly Svid[] {
  return served.svids.filter(
    (svid) => svid.selectors.length > 0 && svid.selectors.every((selector) => selectors.has(selector)),
  );
}
