import type { Json } from '../core/canonical-json.ts';
import type { Selector } from '../core/registration.ts';

/** What the enrollee shows. `type` names the attestor; `data` is its text. */
export interface Evidence {
  type: string;
  data: string;
}

/** What an attestor may look at beside the evidence. */
export interface AttestationContext {
  /** Address of the peer, textual, IPv4-mapped IPv6 already unmapped. */
  peerAddress: string;
  nowMs: number;
}

/** What an attestor found: facts, never an identity. */
export interface Attested {
  selectors: readonly Selector[];
  /** The join token whose use must be burnt with the serial (I6). */
  tokenId: string | undefined;
  /** For the decision record; no secret. */
  audit: { readonly [key: string]: Json };
}

/**
 * Turns evidence into selectors. Throws `denied-…` with what the enrollee can do about it; anything it throws
 * otherwise denies too (I7).
 */
export interface NodeAttestor {
  type: string;
  attest(evidence: Evidence, context: AttestationContext): Promise<Attested>;
}
