import type { Checkpoint } from '../log/checkpoint.ts';
import type { JwtClaims } from '../core/jwt-svid.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import type { OcspAnswer } from '../x509/ocsp.ts';
import type { NewLog } from './new-log.ts';

/** Why a leaf is appended; the signer decides by it what it signs, and refuses any other value. */
export type Purpose =
  /** Only logged: token, entry, operator, revocation, release, authority. Nothing but the checkpoint is signed. */
  | 'record'
  /** A certificate leaf: its TBS is signed if it is a workload's, within the issuer's limits. */
  | 'certificate'
  /** The server's own TLS certificate, the only one that may carry `spiffe://<td>/vouch/server`. */
  | 'server-certificate'
  /** The certificate of the key that signs OCSP answers, and of no other. */
  | 'ocsp-certificate'
  /** A CRL leaf: it names a TBSCertList that was uploaded before by its SHA-256. */
  | 'crl'
  /** A certificate's or CRL's leaf of an issuer whose key is in another token: it is in the tree, nothing is signed. */
  | 'foreign';

/** One leaf to append. What is signed follows from it: a certificate's TBS stands in it. */
export interface AppendItem {
  purpose: Purpose;
  leaf: Buffer;
}

/** Leaves `firstIndex` … in order; `firstIndex` must be the tree size the signer has. */
export interface AppendBatch {
  firstIndex: number;
  items: readonly AppendItem[];
  /**
   * RFC 6962 audit path in the tree of `treeSize`, for a signer that took up the tree anew from a checkpoint past these
   * leaves: of two batches at the signer the later may be answered and stored before the earlier.
   */
  auditPath?: (index: number, treeSize: number) => Buffer[];
}

/** A signature for each item, in order, or what the signer refused; and the checkpoint over the grown tree. */
export interface AppendResult {
  /** DER signature values as they stand in a BIT STRING; undefined for `record`. A refused item is an Error. */
  signatures: readonly (Buffer | undefined | Error)[];
  checkpoint: Checkpoint;
}

/** Signs again what a crash left unsigned: the leaf with its inclusion path in the signer's own tree. */
export interface SignLogged {
  purpose: Exclude<Purpose, 'record' | 'foreign'>;
  leaf: Buffer;
  index: number;
  /** RFC 6962 audit path in the tree of `treeSize`, which must be the signer's. */
  path: readonly Buffer[];
  treeSize: number;
}

/** What a signer says of the tree that it knows, before it takes up one. */
export interface KnownTree {
  /** Origin of its log. */
  logOrigin: string;
  /** Leaves of the largest tree that it signed; 0 for none. */
  floorSize: number;
}

/** What a new signer needs to take up the tree: the last stored checkpoint, the peaks at its size, later leaves. */
export interface ResumeState {
  /** A signed note by one of the statement's log keys. Undefined only for `vouch init`. */
  checkpoint: string | undefined;
  /** RFC 6962 consistency path to the checkpoint from `floorSize`, for a note that another token's log key signed. */
  consistency?: readonly Buffer[];
  /** Roots of the complete subtrees at the checkpoint's size, largest first. */
  peaks: readonly Buffer[];
  /** Where a log begins: the root's statement that opens it. */
  newLog?: NewLog;
  /** Every leaf from the checkpoint's size to the committed end. */
  leaves: AsyncIterable<readonly Buffer[]>;
}

/**
 * `probing`: starting. `usable`: signs. `degraded`: restarting or slow. `unusable`: gave up until an operator acts
 * (wrong PIN, integrity). Only signing waits on it.
 */
export type SignerState = 'probing' | 'usable' | 'degraded' | 'unusable';

/** How often something failed since the server started, by what it took. */
export interface SignerFailures {
  /** A call of the token, made again with a new session. */
  session: number;
  /** The same, after a login. */
  login: number;
  /** A signer that signed ended, and another was started. */
  process: number;
  /** A start that did not come to signing. */
  start: number;
  /** A call of the server was not answered within its deadline. */
  late: number;
}

/** What status, metrics and readiness show. */
export interface SignerStatus {
  state: SignerState;
  pid: number | undefined;
  restarts: number;
  /** Unix milliseconds of the last request that succeeded. */
  lastSuccessMs: number | undefined;
  /** Why it is not usable, safe to show an operator. */
  problem: string | undefined;
  /** Why it was last not usable; stays when it is again. */
  lastProblem: string | undefined;
  /** Sessions with the token, and how many there should be; undefined until it has told. */
  sessions: { open: number; wanted: number } | undefined;
  failures: SignerFailures;
}

/** The key that OCSP answers are signed with, beside an issuer's in its token. */
export interface OcspKey {
  algorithm: SignatureAlgorithm;
  /** DER SubjectPublicKeyInfo. */
  publicKeySpki: Buffer;
}

/** OCSP answers are signed, counted and audited; they are no leaves of the log. */
export interface OcspSigner {
  /** What answers for this issuer; undefined where its token has no such key, or its signer is away. */
  ocspKey(issuerKeyId: string): OcspKey | undefined;
  /** Signature over the ResponseData that `buildResponseData` makes of this answer. Rejects as the other calls do. */
  signOcsp(issuerKeyId: string, answer: OcspAnswer): Promise<Buffer>;
}

/** A key that JWT-SVIDs are signed with. */
export interface JwtKey {
  /** `kid` of its tokens. */
  keyId: string;
  /** DER SubjectPublicKeyInfo, P-256. */
  publicKeySpki: Buffer;
}

/** JWT-SVIDs are signed, counted and audited; they are no leaves of the log. */
export interface JwtSigner {
  /** The key in the token of this issuer; undefined where it has none, or its signer is away. */
  jwtKey(issuerKeyId: string): JwtKey | undefined;
  /**
   * Signature, r ‖ s, over what `jwtSigningInput` makes of this key and these claims. `unavailable-signer` where the
   * token's key is another by now. Rejects as the other calls do.
   */
  signJwt(issuerKeyId: string, keyId: string, claims: JwtClaims): Promise<Buffer>;
}

/**
 * The server's view of the signer. Each call rejects with `unavailable-signer` when the token or its process does not
 * answer in time, and with `integrity-…` when it refuses to go on.
 */
export interface Signer extends OcspSigner, JwtSigner {
  /**
   * Sends the DER TBSCertList of a CRL of this issuer, before its leaf is appended; resolves when the signer has read all
   * of it. `chunks`, cut anywhere, are iterated again where a signer ends meanwhile. A signer that ends later knows it no
   * more: then the leaf's item is refused with `unavailable-signer`. Rejects with `request-malformed`, too.
   */
  upload(issuerKeyId: string, chunks: Iterable<Buffer>): Promise<void>;
  append(batch: AppendBatch): Promise<AppendResult>;
  signLogged(request: SignLogged): Promise<Buffer>;
  /** Of what signs for this issuer; without one, of what signs at all. */
  status(issuerKeyId?: string): SignerStatus;
  /**
   * An operator's word to try once more what was given up: a refused PIN, an integrity failure. Resolves with what came
   * of it. Never rejects.
   */
  retry(): Promise<SignerStatus>;
  /** Stops it: it writes its floor and guard first. Never rejects. */
  close(): Promise<void>;
}
