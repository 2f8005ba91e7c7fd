/**
 * Every row as it is stored, for the verification of a whole state: nothing is parsed, so that a row that somebody
 * damaged can still be named. Lists and objects are JSON as stored, 64-bit numbers text, flags 0 or 1; what another
 * table says of a row stands beside it.
 */
export interface StateRows {
  /** Rows behind a position, in its order, at most `limit`: how one walks through all of them in bounded memory. */
  leaves(afterLeafIndex: number, limit: number): StoredLeaf[];
  certificates(afterLeafIndex: number, limit: number): StoredCertificate[];
  revocations(afterLeafIndex: number, limit: number): StoredRevocation[];
  /** Those of one issuer that count, in the order in which CRLs list them. */
  revocationsBySerial(issuerKeyId: string, afterSerial: string, limit: number): StoredRevocation[];
  /** What came before the one that counts, the first first. */
  earlierRevocations(issuerKeyId: string, serial: string): StoredRevocation[];
  massRevocations(afterLeafIndex: number, limit: number): StoredMassRevocation[];
  crls(afterLeafIndex: number, limit: number): StoredCrl[];
  /** The bytes of the pieces with these ids (8 bytes each, big endian); one that is gone is empty. */
  crlPieces(ids: Buffer): Buffer[];
  statements(afterLeafIndex: number, limit: number): StoredStatement[];
  crossCertificates(afterLeafIndex: number, limit: number): StoredCrossCertificate[];
  jwtKeys(afterLeafIndex: number, limit: number): StoredJwtKey[];
  /** In the order in which they were made. */
  tokens(afterNumber: number, limit: number): StoredToken[];
  entries(afterNumber: number, limit: number): StoredEntry[];
  tokenUses(after: { tokenNumber: number; spkiSha256: string }, limit: number): StoredTokenUse[];
  blockedKeys(afterSpkiSha256: string, limit: number): StoredBlockedKey[];
  crlScopes(): StoredCrlScope[];
  /** The key of a certificate and whether it is blocked. */
  certificateKey(issuerKeyId: string, serial: string): StoredKey | undefined;
  tokenNumber(tokenId: string): number | undefined;
  entryNumber(entryId: string): number | undefined;
}

/** A leaf with the hash that was stored with it. */
export interface StoredLeaf {
  leafIndex: number;
  hash: Buffer;
  bytes: Buffer;
}

/** A row of `certificates`. */
export interface StoredCertificate {
  leafIndex: number;
  issuerKeyId: string;
  serial: string;
  spiffeId: string;
  entryId: string | null;
  tokenId: string | null;
  predecessor: string | null;
  lineage: string;
  spkiSha256: string;
  notBeforeMs: number;
  notAfterMs: number;
  issuedAtMs: number;
  signature: Buffer | null;
  salt: Buffer;
  tbs: Buffer;
  decision: string;
  agent: string | null;
  node: string | null;
  operator: string | null;
  /** Who made its join token. */
  tokenCreatedBy: string | null;
  /** Of the certificate that its row names as predecessor, where an earlier leaf has it. */
  predecessorLineage: string | null;
  predecessorTokenId: string | null;
  predecessorNode: string | null;
  /** The parent of its entry. */
  entryParentId: string | null;
  /** The serial of its agent that its decision names, where an earlier leaf gave that agent this one. */
  agentHadSerial: string | null;
  /** Whether the use of its token is recorded with its key and its leaf. */
  useRecorded: number;
}

/** A row of `revocations`. */
export interface StoredRevocation {
  leafIndex: number;
  issuerKeyId: string;
  serial: string;
  shard: number;
  revokedAtMs: number;
  reason: string;
  invalidityDateSeconds: number | null;
  operator: string;
  salt: Buffer;
  notAfterMs: number;
  crlDateSeconds: number | null;
  mayLeave: number;
  followedBy: number | null;
  /** Whether the row that `followedBy` names is one of the same serial. */
  followedByOwn: number;
  /** Of the last event of the same serial with an earlier leaf. */
  precedingFollowedBy: number | null;
  precedingReason: string | null;
  precedingCrlDateSeconds: number | null;
  precedingMayLeave: number | null;
  /** Of the certificate with its issuer and serial, where the state knows it. */
  certificateNotAfterMs: number | null;
  certificateSpkiSha256: string | null;
  /** Whether that certificate's key is blocked. */
  keyBlocked: number;
}

/** A row of `mass_revocations`. */
export interface StoredMassRevocation {
  leafIndex: number;
  target: string;
  reason: string;
  invalidityDateSeconds: number | null;
  operator: string;
  startedAtMs: number;
  endedBy: number | null;
}

/** A row of `crls`. */
export interface StoredCrl {
  leafIndex: number;
  issuerKeyId: string;
  scope: string;
  crlNumber: string;
  thisUpdateSeconds: number;
  nextUpdateSeconds: number;
  scheduled: number;
  base: number;
  coversTreeSize: number;
  signature: Buffer | null;
  head: Buffer;
  tail: Buffer;
  /** Ids of the pieces of its list, 8 bytes each, big endian. */
  pieces: Buffer;
}

/** A row of `statements`. */
export interface StoredStatement {
  leafIndex: number;
  sequence: number;
  jws: string;
}

/** A row of `cross_certificates`. */
export interface StoredCrossCertificate {
  leafIndex: number;
  chainPem: string;
}

/** A row of `jwt_keys`. */
export interface StoredJwtKey {
  leafIndex: number;
  issuerKeyId: string;
  keyId: string;
  publicKeySpki: Buffer;
}

/** A row of `join_tokens`. */
export interface StoredToken {
  tokenNumber: number;
  tokenId: string;
  /** Hex. */
  secretSha256: string;
  entryId: string | null;
  usesAllowed: number;
  usesTaken: number;
  /** How many uses are recorded. */
  usesRecorded: number;
  cidrs: string;
  expiresAtMs: number;
  createdAtMs: number;
  createdBy: string;
  revokedAtMs: number | null;
}

/** A row of `entries`. */
export interface StoredEntry {
  entryNumber: number;
  entryId: string;
  spiffeId: string;
  parentId: string | null;
  selectors: string;
  selectorCount: number;
  /** JSON of the selectors that it is found by, as text, in order. */
  foundBy: string;
  dnsNames: string;
  ipAddresses: string;
  allowedClients: string;
  hint: string;
  profile: string;
  lifetimeSeconds: number | null;
  version: number;
  suspendedAtMs: number | null;
  deletedAtMs: number | null;
  /** Of the last leaf that made or changed it. */
  changedBy: number | null;
  createdAtMs: number;
}

/** A row of `token_uses`. */
export interface StoredTokenUse {
  tokenNumber: number;
  tokenId: string | null;
  spkiSha256: string;
  leafIndex: number;
  /** Whether the certificate of that leaf is a first one, with this token and key. */
  certificateFits: number;
}

/** A row of `blocked_keys`. */
export interface StoredBlockedKey {
  spkiSha256: string;
  leafIndex: number;
}

/** A certificate's key. */
export interface StoredKey {
  spkiSha256: string;
  keyBlocked: number;
}

/** A row of `crl_scopes`. */
export interface StoredCrlScope {
  issuerKeyId: string;
  scope: string;
  lastNumber: string;
  scheduledThisUpdateSeconds: number | null;
  scheduledCoversTreeSize: number | null;
}
