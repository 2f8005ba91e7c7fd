import { canonicalJson, type Json } from '../core/canonical-json.ts';
import type { LeafDraft, RevocationDraft } from '../store/port.ts';
import type { RevocationRecord } from '../store/records.ts';
import {
  crlBody,
  decisionContext,
  encodeLeaf,
  jsonBody,
  type LeafType,
  revocationBody,
} from '../log/leaf.ts';
import { leafDraft } from './submission.ts';

/** Leaves whose body says all there is, their operator too, have an empty context. */
const noContext = Buffer.alloc(32);

/** The leaf of an operator's deed (token, entry, authority, operator): canonical JSON, who did what. */
export function recordLeaf(
  type: Extract<LeafType, 'token' | 'entry' | 'authority' | 'operator'>,
  timeMs: number,
  body: { readonly [key: string]: Json | undefined },
): LeafDraft {
  return leafDraft(encodeLeaf({ type, timeMs, issuerKeyId: '', body: jsonBody(body), context: noContext }));
}

/** The decision that a revocation's leaf commits to, canonical JSON: who revoked. Its body has no room for it. */
export function revocationDecision({ operator }: Pick<RevocationRecord, 'operator'>): string {
  return canonicalJson({ operator });
}

/** The leaf of one revocation, or of the release of a hold; its operator stands salted in the context. */
export function revocationLeaf(
  timeMs: number,
  issuerKeyId: string,
  revocation: Pick<
    RevocationDraft,
    'serial' | 'reason' | 'revokedAtMs' | 'operator' | 'salt' | 'invalidityDateSeconds'
  >,
): LeafDraft {
  return leafDraft(
    encodeLeaf({
      type: revocation.reason === 'removeFromCRL' ? 'release' : 'revocation',
      timeMs,
      issuerKeyId,
      body: revocationBody(revocation),
      context: decisionContext(revocation.salt, revocationDecision(revocation)),
    }),
  );
}

/** The leaf of one CRL: its scope, its number and the hash of its TBSCertList. */
export function crlLeaf(
  timeMs: number,
  issuerKeyId: string,
  crl: { scope: string; crlNumber: bigint; tbsSha256: Buffer },
): LeafDraft {
  return leafDraft(encodeLeaf({ type: 'crl', timeMs, issuerKeyId, body: crlBody(crl), context: noContext }));
}
