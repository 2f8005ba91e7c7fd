import type { Checkpoint } from '../log/checkpoint.ts';
import { hashLeaf } from '../log/merkle.ts';
import type { Purpose } from '../signer/port.ts';
import type { LeafDraft, Mutation } from '../store/port.ts';
import type { CertificateRecord } from '../store/records.ts';

/** One mutation on its way into the log, and what the signer is to sign for it. */
export interface Submission {
  purpose: Exclude<Purpose, 'foreign'>;
  mutation: Mutation;
  /** True where the signature value verifies over what was to be signed; required for all but `record` (I3). */
  verify?: (signature: Buffer) => boolean | Promise<boolean>;
}

/** A leaf with its signature and its place in the tree of `checkpoint`. */
export interface Sequenced {
  status: 'signed';
  leafIndex: number;
  signature: Buffer;
  proof: InclusionProof;
}

/** RFC 6962 audit path of a leaf in the tree of `checkpoint`. */
export interface InclusionProof {
  leafIndex: number;
  path: Buffer[];
  checkpoint: Checkpoint;
}

/** The request was answered before: the stored certificate of the same token and key. */
export interface AlreadyThere {
  status: 'exists';
  certificate: CertificateRecord;
  /** It was ended unsigned, so that another issuer could take over. */
  isEnded?: boolean;
}

/** Issuer whose key signs it; undefined for what is only recorded. */
export function issuerKeyIdOf({ mutation }: Submission): string | undefined {
  if (mutation.kind === 'certificate') return mutation.certificate.issuerKeyId;
  return mutation.kind === 'crl' ? mutation.crl.issuerKeyId : undefined;
}

/** Makes a leaf draft from its encoded bytes. */
export function leafDraft(bytes: Buffer): LeafDraft {
  return { bytes, hash: hashLeaf(bytes) };
}
