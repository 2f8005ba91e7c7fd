import type { Reason } from '../core/reasons.ts';
import type { Serial } from '../core/serial.ts';
import type { SpiffeId, TrustDomain } from '../core/spiffe-id.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import type { CrlBytes } from '../x509/crl-tbs.ts';

/** Who this state belongs to; written by `vouch init`, checked at each start (I10). */
export interface StateIdentity {
  stateId: string;
  trustDomain: TrustDomain;
  logOrigin: string;
  /** First byte of every serial. */
  serialPrefix: number;
  shardCount: number;
  createdAtMs: number;
}

/** A root or issuer. Key ids are 40 hex characters (RFC 7093 method 1). */
export interface AuthorityRecord {
  keyId: string;
  kind: 'root' | 'issuer';
  state: 'prepared' | 'active' | 'old' | 'tainted' | 'retired';
  /** What its key signs by, for as long as it lives. */
  algorithm: SignatureAlgorithm;
  certificateDer: Buffer;
}

/** Where a certificate came from, kept for `explain` and for revocation by lineage. */
export interface CertificateRecord {
  issuerKeyId: string;
  serial: Serial;
  spiffeId: SpiffeId;
  entryId: string | undefined;
  tokenId: string | undefined;
  predecessor: Serial | undefined;
  /** Serial of the enrollment that this one descends from by renewals. */
  lineage: Serial;
  /** Who asked for it, where an agent did for a workload: it descends from that agent's certificates. */
  agent?: SpiffeId | undefined;
  /** Name of the attested node that it is for. */
  node?: string | undefined;
  /** SHA-256 of the SubjectPublicKeyInfo, hex. */
  spkiSha256: string;
  notBeforeMs: number;
  /** Inclusive (RFC 5280 §4.1.2.5). */
  notAfterMs: number;
  tbs: Buffer;
  /** DER signature value; undefined where a crash left none. */
  signature: Buffer | undefined;
  leafIndex: number;
  issuedAtMs: number;
  /** Canonical JSON of the decision, and the salt that hides it in the leaf's context. */
  decision: string;
  salt: Buffer;
}

/** A certificate with all that decides at this instant whether it still counts (I7). */
export interface CertificateStanding extends CertificateRecord {
  /** Undefined also after the release of a hold. */
  revoked: { revokedAtMs: number; reason: Reason } | undefined;
  /** Also where it is deleted. */
  entrySuspended: boolean;
}

export interface JoinTokenRecord {
  tokenId: string;
  entryId: string;
  usesAllowed: number;
  usesTaken: number;
  /** Address ranges in CIDR notation that may use it; empty: any. */
  cidrs: readonly string[];
  expiresAtMs: number;
  createdAtMs: number;
  createdBy: string;
  revokedAtMs: number | undefined;
}

/**
 * What happened to a serial: revoked, on hold, or with the reason `removeFromCRL` released from hold. The last event of
 * a serial counts; what came before stays on record.
 */
export interface RevocationRecord {
  issuerKeyId: string;
  serial: Serial;
  shard: number;
  revokedAtMs: number;
  reason: Reason;
  /** Since when the key may have been in other hands, Unix seconds (RFC 5280 §5.3.2). */
  invalidityDateSeconds: number | undefined;
  operator: string;
  /** 16 bytes that hide the operator in the leaf's context. */
  salt: Buffer;
  notAfterMs: number;
  leafIndex: number;
  /**
   * The entry's revocationDate, fixed by the first CRL that carried it (I5); Unix seconds. An event that follows one
   * with a date has the same, but after a release.
   */
  crlDateSeconds: number | undefined;
  /** Leaf index of the event of the same serial that came next; undefined: this one counts. */
  followedBy: number | undefined;
  /** True once it stood on a scheduled CRL whose thisUpdate is past notAfter: it may leave. */
  mayLeave: boolean;
}

/** A revocation of many certificates, or with the reason `removeFromCRL` a release; it ends when nothing of its target is left. */
export interface MassRevocationRecord {
  /** Its first leaf's, by which it is known. */
  leafIndex: number;
  /** Canonical JSON. */
  target: string;
  reason: Reason;
  invalidityDateSeconds: number | undefined;
  operator: string;
  startedAtMs: number;
  /** Events recorded so far. */
  eventCount: number;
  /** Index of the leaf that says that it is done. */
  endedBy: number | undefined;
}

/** `full`, `delta`, or a shard's number as text. */
export type CrlScope = string;

export interface CrlRecord {
  issuerKeyId: string;
  scope: CrlScope;
  crlNumber: bigint;
  thisUpdateSeconds: number;
  nextUpdateSeconds: number;
  /** Made by the schedule, not by a revocation: only such a one lets entries leave (RFC 5280 §3.3). */
  scheduled: boolean;
  /** Made to be what delta CRLs go with. */
  base: boolean;
  /** Log size that it covers: every revocation with a smaller index is in it or may have left. */
  coversTreeSize: number;
  leafIndex: number;
  /** Of a small one everything may stand in `head`. */
  tbs: CrlBytes;
  signature: Buffer | undefined;
}

/** A key that signs JWT-SVIDs, in the token of an issuer. */
export interface JwtKeyRecord {
  leafIndex: number;
  issuerKeyId: string;
  /** `kid` */
  keyId: string;
  /** DER SubjectPublicKeyInfo, P-256. */
  publicKeySpki: Buffer;
}
