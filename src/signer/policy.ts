import { VouchError } from '../core/errors.ts';
import type { TrustDomain } from '../core/spiffe-id.ts';
import { type CrlBody, decodeCrlBody, decodeLeaf, type Leaf } from '../log/leaf.ts';
import type { SigningLimits } from './authority-file.ts';
import { checkCertificate } from './certificate-policy.ts';
import type { CrlNumbers } from './crl-numbers.ts';
import { checkCrl } from './crl-policy.ts';
import type { Signable } from './hsm.ts';
import { checkResponder } from './ocsp-policy.ts';
import type { PolicyIssuer } from './policy-issuer.ts';
import type { RequestedItem } from './protocol.ts';
import type { Uploads } from './uploads.ts';

/** What the decision rests on besides the request. */
export interface PolicyContext {
  trustDomain: TrustDomain;
  issuers: ReadonlyMap<string, PolicyIssuer>;
  limits: SigningLimits;
  nowMs: number;
  crlNumbers: CrlNumbers;
  /** CRLs that were sent. */
  uploads: Pick<Uploads, 'get'>;
  /** DER SubjectPublicKeyInfo of the key that answers OCSP, where there is one. */
  ocspSpki?: Buffer | undefined;
  /** DER SubjectPublicKeyInfo of the key that signs JWT-SVIDs, where there is one. */
  jwtSpki?: Buffer | undefined;
  /** `first`: the leaf was just appended. `again`: it is in the tree, and a crash took its signature. */
  occasion: 'first' | 'again';
}

/** What came of an item: what to sign with an issuer's key, nothing to sign, or why it is refused. */
export type Decision =
  | { outcome: 'sign'; issuer: PolicyIssuer; toSign: Signable; crl: CrlBody | undefined }
  | { outcome: 'record' }
  | { outcome: 'refuse'; error: VouchError };

/**
 * Decides what an item's signature is, from the leaf that the log holds and nothing else (I1, I11). Never throws: a
 * thrown check is a refusal (I7).
 */
export function decide(item: RequestedItem, context: PolicyContext): Decision {
  try {
    return decideOrThrow(item, context);
  } catch (error) {
    const known = error instanceof VouchError;
    const refused = known
      ? error
      : new VouchError('policy-lint', 'the signer could not judge it', { cause: error });
    return { outcome: 'refuse', error: refused };
  }
}

function decideOrThrow(item: RequestedItem, context: PolicyContext): Decision {
  const leaf = decodeLeaf(item.leaf);
  switch (item.purpose) {
    case 'record':
      if (leaf.type !== 'certificate' && leaf.type !== 'crl') return { outcome: 'record' };
      // A root's CRL, which a ceremony signed elsewhere; those of our issuers are not to be had unsigned.
      if (leaf.type === 'crl' && !context.issuers.has(leaf.issuerKeyId)) return { outcome: 'record' };
      return mismatch('record', leaf);
    case 'certificate':
    case 'server-certificate':
    case 'ocsp-certificate': {
      if (leaf.type !== 'certificate') return mismatch(item.purpose, leaf);
      const issuer = issuerOf(leaf, context);
      const tbs = leaf.body;
      const isServer = item.purpose === 'server-certificate';
      const check = item.purpose === 'ocsp-certificate' ? checkResponder : checkCertificate;
      unlessWithoutI11(() => check(tbs, { ...context, issuer, leafTimeMs: leaf.timeMs, isServer }));
      return { outcome: 'sign', issuer, toSign: tbs, crl: undefined };
    }
    case 'crl': {
      if (leaf.type !== 'crl') return mismatch('crl', leaf);
      const issuer = issuerOf(leaf, context);
      const crl = decodeCrlBody(leaf.body);
      const sent = context.uploads.get(crl.tbsSha256);
      // A signer that was started meanwhile: the same CRL is sent to it again.
      if (!sent)
        throw new VouchError('unavailable-signer', 'the CRL of this leaf was not sent to this signer', {
          retryAfterSeconds: 1,
        });
      unlessWithoutI11(() => checkCrl(sent.head, { ...context, issuer, crl }));
      return { outcome: 'sign', issuer, toSign: sent.signable(issuer.algorithm), crl };
    }
    case 'foreign':
      if ((leaf.type === 'certificate' || leaf.type === 'crl') && !context.issuers.has(leaf.issuerKeyId))
        return { outcome: 'record' };
      return mismatch('foreign', leaf);
    default:
      throw new VouchError('request-unknown-type', 'the signer knows no such purpose; nothing was signed');
  }
}

function issuerOf(leaf: Leaf, context: PolicyContext): PolicyIssuer {
  const issuer = context.issuers.get(leaf.issuerKeyId);
  if (issuer) return issuer;
  throw new VouchError('policy-lint', `this signer does not sign for issuer ${leaf.issuerKeyId}`);
}

/** Runs a check save in the mutation build that proves the tests notice its absence. */
function unlessWithoutI11(check: () => void): void {
  if (__VOUCH_WITHOUT__ !== 'I11') check();
}

function mismatch(purpose: string, leaf: Leaf): never {
  throw new VouchError('policy-lint', `a ${leaf.type} leaf is not signed or recorded as ${purpose}`);
}
