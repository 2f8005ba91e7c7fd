import type { ErrorCode } from '../core/errors.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import type { Serial } from '../core/serial.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import type { CrlPiece } from '../x509/crl-list.ts';
import type {
  AuthorityRecord,
  CertificateRecord,
  CertificateStanding,
  CrlRecord,
  CrlScope,
  JoinTokenRecord,
  JwtKeyRecord,
  MassRevocationRecord,
  RevocationRecord,
  StateIdentity,
} from './records.ts';
import type { StateRows } from './rows-port.ts';

/** A leaf without its index; the transaction that commits the mutation gives it one. */
export interface LeafDraft {
  bytes: Buffer;
  /** RFC 6962 leaf hash. */
  hash: Buffer;
}

/**
 * One mutation with its leaf (or leaves, in order). All that stands in one item commits or fails together, in a
 * savepoint of its own inside the batch's transaction.
 */
export type Mutation =
  | {
      kind: 'certificate';
      leaf: LeafDraft;
      certificate: Omit<CertificateRecord, 'leafIndex' | 'signature'>;
      /** Rechecked in the transaction: entry unchanged and not suspended, predecessor unrevoked, key not blocked. */
      entryVersion: number | undefined;
      /**
       * The certificate that the agent showed who asks in the name of a workload. Rechecked: it counts, its entry is not
       * suspended, and the entry has just this parent. Undefined: nobody's, and the entry has no parent.
       */
      askedBy: Pick<CertificateRecord, 'issuerKeyId' | 'serial'> | undefined;
      /**
       * A token's use burnt in the same savepoint (I6). With a predecessor, the use that this very certificate got and
       * that passes on: it was ended unsigned, since its issuer is away (`takeOverOperator`).
       */
      tokenUse: { tokenId: string; atMs: number } | undefined;
    }
  | {
      kind: 'token';
      leaf: LeafDraft;
      token: Omit<JoinTokenRecord, 'usesTaken' | 'revokedAtMs'>;
      secretSha256: Buffer;
      entry: RegistrationEntry;
    }
  | { kind: 'token-revoked'; leaf: LeafDraft; tokenId: string; atMs: number }
  /** Refused for an identity that is suspended, and past `entriesOfParentMax`. */
  | { kind: 'entry-created'; leaf: LeafDraft; entry: RegistrationEntry }
  /** It is absent from then on, but its certificates still name it. */
  | { kind: 'entry-deleted'; leaf: LeafDraft; entryId: string; parentId: SpiffeId | undefined; atMs: number }
  | { kind: 'entry-suspended'; leaf: LeafDraft; entryId: string; atMs: number }
  | { kind: 'entry-resumed'; leaf: LeafDraft; entryId: string }
  /** Refused where `mayFollow` (core/reasons.ts) says so. */
  | {
      kind: 'revocation';
      leaf: LeafDraft;
      revocation: RevocationDraft;
      blockKeySha256: string | undefined;
      /** Leaf of the mass revocation that it is counted with. */
      massRevocation?: number | undefined;
    }
  /** Written down before the first of its certificates ends. */
  | {
      kind: 'mass-revocation';
      leaf: LeafDraft;
      massRevocation: Omit<MassRevocationRecord, 'leafIndex' | 'eventCount' | 'endedBy'>;
    }
  | { kind: 'mass-revocation-ended'; leaf: LeafDraft; massRevocation: number }
  /** Blocks the key of a certificate that is revoked already, for another reason; a blocked one is refused. */
  | {
      kind: 'key-blocked';
      leaf: LeafDraft;
      revoked: Pick<RevocationRecord, 'issuerKeyId' | 'serial'>;
      spkiSha256: string;
    }
  /** Pieces that `putPieces` did not put are put with it. Dates are fixed of what the CRL covers; covering nothing, of what counts. */
  | {
      kind: 'crl';
      leaf: LeafDraft;
      crl: Omit<CrlRecord, 'leafIndex' | 'signature'>;
      datesFixed: readonly { serial: Serial; crlDateSeconds: number }[];
    }
  | { kind: 'authority'; leaf: LeafDraft; authority: AuthorityRecord }
  /** What the root vouches for from now on; a sequence that does not rise is refused. */
  | { kind: 'statement'; leaf: LeafDraft; sequence: number; statement: string }
  /** The root's key certified by a CA above; the newest one counts. */
  | { kind: 'cross-certificate'; leaf: LeafDraft; chainPem: string }
  /** From now on the one that counts beside its issuer. */
  | { kind: 'jwt-key'; leaf: LeafDraft; jwtKey: Omit<JwtKeyRecord, 'leafIndex'> }
  | { kind: 'operator'; leaf: LeafDraft };

/**
 * What became of a mutation: the index of its leaf; a stored certificate that answers the same request (a retry with
 * the same token and key, I6); or the code it was refused with, nothing of it written.
 */
export type MutationOutcome =
  | { status: 'committed'; leafIndex: number }
  | {
      status: 'exists';
      certificate: CertificateRecord;
      /** It was ended unsigned, so that another issuer could take over, which none has done yet. */
      isEnded?: boolean;
    }
  | {
      status: 'refused';
      code: ErrorCode;
      detail: string;
      /** For the log only. */
      cause?: unknown;
      /** Of a `revocation` whose serial is revoked already: the revocation that stands. */
      revocation?: RevocationRecord;
    };

/** Signatures to keep; a certificate's or a CRL's, by its leaf. */
export interface StoredSignature {
  kind: 'certificate' | 'crl';
  leafIndex: number;
  signature: Buffer;
}

/** A revocation before it has a leaf; the transaction gives it what it takes over from the event that it follows. */
export type RevocationDraft = Omit<
  RevocationRecord,
  'leafIndex' | 'crlDateSeconds' | 'followedBy' | 'mayLeave' | 'invalidityDateSeconds'
> & { invalidityDateSeconds?: number | undefined };

/** What certificates may have in common. `tokenId`: what came of this join token; `operator`: of those that he made. */
export type CommonOrigin =
  | { lineage: Serial }
  | { spiffeId: SpiffeId }
  | { tokenId: string }
  | { entryId: string }
  | { operator: string }
  | { agentId: SpiffeId }
  | { node: string }
  | { spkiSha256: string }
  /** Both inclusive. */
  | { issuedBetween: { fromMs: number; toMs: number } };

/** Lists show the newest first. `after`: the last seen entryId, tokenId, or for certificates leafIndex in decimal. */
export interface Page {
  after?: string;
  limit: number;
}

/** Reads. All answer from committed state; a deleted entry is absent. */
export interface StoreReader {
  identity(): StateIdentity;
  authorities(): AuthorityRecord[];
  /** The root's newest statement, a compact JWS. */
  statement(): string | undefined;
  /** The newest cross-certificate of the root and the CAs above it, PEM in that order. */
  crossChain(): string | undefined;
  /** Every one that there ever was, oldest first; the last one of an issuer counts. */
  jwtKeys(): JwtKeyRecord[];
  entry(entryId: string): RegistrationEntry | undefined;
  /** Entries whose selectors are all among `selectors`, oldest first. */
  entriesMatching(selectors: readonly string[]): RegistrationEntry[];
  entries(page: Page & { spiffeId?: SpiffeId; parentId?: SpiffeId }): RegistrationEntry[];
  /** How many entries have this parent. */
  entryCountOf(parentId: SpiffeId): number;
  /** Index of the last leaf that made, changed or deleted an entry of this parent; undefined where it never had one. */
  entriesChangedBy(parentId: SpiffeId): number | undefined;
  /** Whether there is or was such an entry. */
  isEntryOnRecord(entryId: string): boolean;
  tokenBySecret(secretSha256: Buffer): JoinTokenRecord | undefined;
  token(tokenId: string): JoinTokenRecord | undefined;
  tokens(page: Page): JoinTokenRecord[];
  /** Those that this operator made and that are neither revoked nor expired at `nowMs`, the last to expire first. */
  liveTokensOf(operator: string, nowMs: number, limit: number): JoinTokenRecord[];
  certificate(issuerKeyId: string, serial: Serial): CertificateStanding | undefined;
  /** By serial alone, for operators; a serial is unique for each issuer only. */
  certificatesBySerial(serial: Serial): CertificateStanding[];
  certificates(page: Page & { spiffeId?: SpiffeId; tokenId?: string }): CertificateStanding[];
  /**
   * Unexpired at `nowMs`, revoked or not, by what they have in common; the last to expire first, of `issuedBetween` the
   * last issued. `after`: leafIndex of the last seen. What is issued meanwhile may come before it.
   */
  unexpiredCertificates(
    by: CommonOrigin,
    nowMs: number,
    page?: { after?: number | undefined; limit: number },
  ): CertificateStanding[];
  /** Of what an issuer issued with leaves of [from, to): the latest notAfter, 0 of none, and how many end at `nowMs` or later. */
  issuedBy(
    issuerKeyId: string,
    leaves: { from: number; to: number },
    nowMs: number,
  ): { lastNotAfterMs: number; unexpired: number };
  /** The certificate that this token and key already got; the last of those that took over from each other. */
  certificateOfTokenUse(tokenId: string, spkiSha256: string): CertificateRecord | undefined;
  treeSize(): number;
  /** Leaf hashes of [from, to), 32 bytes each. */
  leafHashes(from: number, to: number): Buffer[];
  leaves(from: number, to: number): Buffer[];
  /** The newest stored checkpoint note. */
  checkpointNote(): string | undefined;
  /** A signed note that proves that this log was set back, as `keepRewindEvidence` kept it. */
  rewindEvidence(): string | undefined;
  /** What still has to stand on CRLs of an issuer, in serial order; at most `limit` behind `afterSerial` ('': from the first). */
  standingBySerial(issuerKeyId: string, afterSerial: string, limit: number): RevocationRecord[];
  /** Of what still has to stand, at most `limit` whose certificates expired before this moment, the first expired first. */
  expiredStanding(issuerKeyId: string, beforeMs: number, limit: number): RevocationRecord[];
  /** The events of an issuer that count, releases too, with a leaf behind this one, by leaf. */
  revocationsAfter(issuerKeyId: string, after: { leafIndex: number }, limit: number): RevocationRecord[];
  /** The last event of a serial; it may be a release (`removeFromCRL`). */
  revocation(issuerKeyId: string, serial: Serial): RevocationRecord | undefined;
  /** All events of a serial, the first first. */
  revocationEvents(issuerKeyId: string, serial: Serial): RevocationRecord[];
  massRevocation(leafIndex: number): MassRevocationRecord | undefined;
  /** Those that have not ended, the first first. */
  unfinishedMassRevocations(): MassRevocationRecord[];
  /** The newest signed CRL of each scope. */
  lastCrls(issuerKeyId: string): CrlRecord[];
  /** The newest signed full CRL that was made to be the base of delta CRLs. */
  baseCrl(issuerKeyId: string): CrlRecord | undefined;
  /** thisUpdate, in Unix seconds, of the newest scheduled CRL of each scope that had one. */
  scheduledUpdates(issuerKeyId: string): ReadonlyMap<CrlScope, number>;
  /** Every stored CRL (of one issuer), oldest first: of each scope the two newest, the newest signed one, and the base. */
  crls(issuerKeyId?: string): CrlRecord[];
  /** 0 where there is none yet. */
  lastCrlNumber(issuerKeyId: string): bigint;
  clockMark(): ClockMark;
  /** Certificates after `leafIndex` order, for verification of a whole state. */
  certificatesByLeaf(fromLeafIndex: number, limit: number): CertificateRecord[];
  /** Every row as it is stored, for the verification of a whole state. */
  rows(): StateRows;
}

/** The last moment at which the clock was believed (I12). */
export interface ClockMark {
  /** Unix milliseconds. */
  wallMs: number;
  /** What the monotonic clock of that boot said then. */
  monotonicMs: number;
  bootId: string;
}

/** Writes: each a whole operation in one transaction of the adapter. */
export interface Store extends StoreReader {
  /**
   * Group commit: each mutation in a savepoint of its own, so that one that fails leaves the batch alone; leaf indices
   * are given in order, the signatures handed along are stored, and everything is durable when it resolves.
   */
  commitBatch(mutations: readonly Mutation[], signed: SignedSoFar): Promise<MutationOutcome[]>;
  /** Stores signatures and the checkpoint when no batch comes along. */
  storeSigned(signed: SignedSoFar): Promise<void>;
  /**
   * Puts pieces of a CRL's list, a bounded amount in each transaction, so that the CRL that is committed afterwards has
   * little left to write. A piece that was put is not put again.
   */
  putPieces(pieces: readonly CrlPiece[]): Promise<void>;
  /** Marks revocations that stood on a scheduled CRL past their notAfter as free to leave. */
  releaseExpired(issuerKeyId: string, serials: readonly Serial[]): Promise<void>;
  setClockMark(mark: ClockMark): Promise<void>;
  /** Keeps what proves that this log was set back, so that a restart does not forget it (I10). */
  keepRewindEvidence(note: string): Promise<void>;
  /** False after a failed fsync: nothing can be written until the process is started again. */
  writable(): boolean;
  /** Consistent copy of the database in one file, while in use. */
  backup(file: string): Promise<void>;
  close(): Promise<void>;
}

export interface SignedSoFar {
  signatures: readonly StoredSignature[];
  checkpointNote: string | undefined;
}
