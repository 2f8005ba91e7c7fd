import type { AllowedPeers } from '../../client/allowed.ts';
import type { Trust } from '../../client/peer.ts';
import type { SpiffeId } from '../../core/spiffe-id.ts';

/** What a proxy shows, whom it trusts, and whom its entry lets call; immutable, another object after each change. */
export interface ProxyIdentity {
  spiffeId: SpiffeId;
  /** PEM; the same object for as long as none of them changes. */
  tls: { cert: string; key: string; ca: string };
  /** End of our own certificate, Unix milliseconds. */
  notAfterMs: number;
  trust: Trust;
  allowedClients: AllowedPeers;
}
