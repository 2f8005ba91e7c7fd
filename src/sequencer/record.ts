import type { Json } from '../core/canonical-json.ts';
import type { Reason } from '../core/reasons.ts';
import type { Serial } from '../core/serial.ts';
import type { LeafDraft } from '../store/port.ts';
import { crlBody, encodeLeaf, jsonBody, type LeafType, revocationBody } from '../log/leaf.ts';
import { leafDraft } from './submission.ts';

/** Leaves whose body says all there is have an empty context. */
const noContext = Buffer.alloc(32);

/** The leaf of an operator's deed (token, entry, authority, operator): canonical JSON, who did what. */
export function recordLeaf(
  type: Extract<LeafType, 'token' | 'entry' | 'authority' | 'operator'>,
  timeMs: number,
  body: { readonly [key: string]: Json },
): LeafDraft {
  return leafDraft(encodeLeaf({ type, timeMs, issuerKeyId: '', body: jsonBody(body), context: noContext }));
}

/** The leaf of one revocation. */
export function revocationLeaf(
  timeMs: number,
  issuerKeyId: string,
  revocation: { serial: Serial; reason: Reason; revokedAtMs: number },
): LeafDraft {
  return leafDraft(
    encodeLeaf({
      type: 'revocation',
      timeMs,
      issuerKeyId,
      body: revocationBody(revocation),
      context: noContext,
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
