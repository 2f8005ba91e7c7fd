import type {
  StateRows,
  StoredBlockedKey,
  StoredCertificate,
  StoredCrl,
  StoredCrlScope,
  StoredEntry,
  StoredJwtKey,
  StoredKey,
  StoredLeaf,
  StoredMassRevocation,
  StoredRevocation,
  StoredCrossCertificate,
  StoredStatement,
  StoredToken,
  StoredTokenUse,
} from '../rows-port.ts';
import type { Connection } from './connection.ts';
import { decodeIds } from './crl-pieces.ts';
import { storeFailure } from './failure.ts';

/** The statements of `StateRows`, prepared with the others so that a test sees their plans. */
export type RowStatements = ReturnType<typeof prepareRows>;

/** The port over one connection. Throws `unavailable-store` or `integrity-state` where SQLite fails. */
export function stateRows(statements: RowStatements, reads: KeyedReads): StateRows {
  const { tokenUses, crlScopes } = statements;
  return {
    leaves: paged(statements.leaves),
    certificates: paged(statements.certificates),
    revocations: paged(statements.revocations),
    revocationsBySerial: paged(statements.revocationsBySerial),
    earlierRevocations: paged(statements.earlierRevocations),
    massRevocations: paged(statements.massRevocations),
    crls: paged(statements.crls),
    crlPieces: (ids) => decodeIds(ids).map((id) => paged(reads.crlPiece)(id)[0] ?? Buffer.alloc(0)),
    statements: paged(statements.statements),
    crossCertificates: paged(statements.crossCertificates),
    jwtKeys: paged(statements.jwtKeys),
    tokens: paged(statements.tokens),
    entries: paged(statements.entries),
    blockedKeys: paged(statements.blockedKeys),
    tokenUses: ({ tokenNumber, spkiSha256 }, limit) => paged(tokenUses)(tokenNumber, spkiSha256, limit),
    crlScopes: paged(crlScopes),
    certificateKey: (issuerKeyId, serial) => paged(statements.certificateKey)(issuerKeyId, serial)[0],
    tokenNumber: (tokenId) => paged(reads.tokenNumber)(tokenId)[0],
    entryNumber: (entryId) => paged(reads.entryNumber)(entryId)[0],
  };
}

interface KeyedReads {
  tokenNumber: { all(tokenId: string): number[] };
  entryNumber: { all(entryId: string): number[] };
  crlPiece: { all(pieceId: number): Buffer[] };
}

function paged<P extends unknown[], R>(query: { all(...parameters: P): R[] }): (...parameters: P) => R[] {
  return (...parameters) => {
    try {
      return query.all(...parameters);
    } catch (error) {
      throw storeFailure(error);
    }
  };
}

const revocation = `SELECT r.leaf_index AS leafIndex, r.issuer_key_id AS issuerKeyId, r.serial, r.shard, r.revoked_at_ms AS revokedAtMs,
    r.reason, r.invalidity_date_seconds AS invalidityDateSeconds, r.operator, r.salt, r.not_after_ms AS notAfterMs, r.crl_date_seconds AS crlDateSeconds, r.may_leave AS mayLeave,
    r.followed_by AS followedBy, r.followed_by IS NULL OR EXISTS (SELECT 1 FROM revocations AS n WHERE n.leaf_index = r.followed_by
      AND n.serial = r.serial AND n.issuer_key_id = r.issuer_key_id) AS followedByOwn,
    p.followed_by AS precedingFollowedBy, p.reason AS precedingReason, p.crl_date_seconds AS precedingCrlDateSeconds,
    p.may_leave AS precedingMayLeave,
    c.not_after_ms AS certificateNotAfterMs, c.spki_sha256 AS certificateSpkiSha256,
    EXISTS (SELECT 1 FROM blocked_keys AS b WHERE b.spki_sha256 = c.spki_sha256) AS keyBlocked
  FROM revocations AS r LEFT JOIN certificates AS c ON c.serial = r.serial AND c.issuer_key_id = r.issuer_key_id
    LEFT JOIN revocations AS p ON p.leaf_index = (SELECT max(e.leaf_index) FROM revocations AS e WHERE e.serial = r.serial
      AND e.issuer_key_id = r.issuer_key_id AND e.followed_by IS NOT NULL AND e.leaf_index < r.leaf_index)`;

/** Prepares every reading of whole tables; each a walk along a key. */
export function prepareRows(db: Connection) {
  return { ...prepareLogged(db), ...prepareRegistered(db), ...prepareRevoked(db) };
}

function prepareLogged(db: Connection) {
  return {
    leaves: db.prepare<[number, number], StoredLeaf>(
      'SELECT leaf_index AS leafIndex, hash, bytes FROM leaves WHERE leaf_index > ? ORDER BY leaf_index LIMIT ?',
    ),
    certificates: db.prepare<[number, number], StoredCertificate>(
      `SELECT c.leaf_index AS leafIndex, c.issuer_key_id AS issuerKeyId, c.serial, c.spiffe_id AS spiffeId, e.entry_id AS entryId,
         t.token_id AS tokenId, c.predecessor, coalesce(c.lineage, c.serial) AS lineage, c.spki_sha256 AS spkiSha256,
         c.not_before_ms AS notBeforeMs, c.not_after_ms AS notAfterMs, c.issued_at_ms AS issuedAtMs, c.signature, c.salt, c.tbs, c.decision,
         c.agent, c.node, c.operator, t.created_by AS tokenCreatedBy,
         coalesce(p.lineage, p.serial) AS predecessorLineage, pt.token_id AS predecessorTokenId,
         p.node AS predecessorNode, e.parent_id AS entryParentId,
         CASE WHEN c.agent IS NOT NULL AND json_valid(c.decision) THEN (SELECT a.serial FROM certificates AS a WHERE a.serial = c.decision ->> '$.agentSerial'
           AND a.spiffe_id = c.agent AND a.leaf_index < c.leaf_index) END AS agentHadSerial,
         EXISTS (SELECT 1 FROM token_uses AS u WHERE u.token_number = c.token_number AND u.spki_sha256 = c.spki_sha256
           AND u.leaf_index = c.leaf_index) AS useRecorded
       FROM certificates AS c
         LEFT JOIN entries AS e ON e.entry_number = c.entry_number
         LEFT JOIN join_tokens AS t ON t.token_number = c.token_number
         LEFT JOIN certificates AS p ON p.leaf_index = (
           SELECT min(leaf_index) FROM certificates AS b WHERE b.serial = c.predecessor AND b.leaf_index < c.leaf_index)
         LEFT JOIN join_tokens AS pt ON pt.token_number = p.token_number
       WHERE c.leaf_index > ? ORDER BY c.leaf_index LIMIT ?`,
    ),
    statements: db.prepare<[number, number], StoredStatement>(
      'SELECT leaf_index AS leafIndex, sequence, jws FROM statements WHERE leaf_index > ? ORDER BY leaf_index LIMIT ?',
    ),
    crossCertificates: db.prepare<[number, number], StoredCrossCertificate>(
      'SELECT leaf_index AS leafIndex, chain_pem AS chainPem FROM cross_certificates WHERE leaf_index > ? ORDER BY leaf_index LIMIT ?',
    ),
    jwtKeys: db.prepare<[number, number], StoredJwtKey>(
      `SELECT leaf_index AS leafIndex, issuer_key_id AS issuerKeyId, key_id AS keyId, public_key AS publicKeySpki
       FROM jwt_keys WHERE leaf_index > ? ORDER BY leaf_index LIMIT ?`,
    ),
  };
}

function prepareRegistered(db: Connection) {
  return {
    tokens: db.prepare<[number, number], StoredToken>(
      `SELECT t.token_number AS tokenNumber, t.token_id AS tokenId, lower(hex(t.secret_sha256)) AS secretSha256, e.entry_id AS entryId,
         t.uses_allowed AS usesAllowed, t.uses_taken AS usesTaken, t.cidrs, t.expires_at_ms AS expiresAtMs,
         t.created_at_ms AS createdAtMs, t.created_by AS createdBy, t.revoked_at_ms AS revokedAtMs,
         (SELECT count(*) FROM token_uses AS u WHERE u.token_number = t.token_number) AS usesRecorded
       FROM join_tokens AS t LEFT JOIN entries AS e ON e.entry_number = t.entry_number
       WHERE t.token_number > ? ORDER BY t.token_number LIMIT ?`,
    ),
    entries: db.prepare<[number, number], StoredEntry>(
      `SELECT e.entry_number AS entryNumber, e.entry_id AS entryId, e.spiffe_id AS spiffeId, e.parent_id AS parentId, e.selectors, e.selector_count AS selectorCount,
         (SELECT json_group_array(s.selector ORDER BY s.selector) FROM entry_selectors AS s WHERE s.entry_number = e.entry_number) AS foundBy,
         e.dns_names AS dnsNames, e.ip_addresses AS ipAddresses, e.allowed_clients AS allowedClients, e.hint, e.profile,
         e.lifetime_seconds AS lifetimeSeconds, e.version, e.suspended_at_ms AS suspendedAtMs, e.deleted_at_ms AS deletedAtMs,
         e.changed_by AS changedBy, e.created_at_ms AS createdAtMs
       FROM entries AS e WHERE e.entry_number > ? ORDER BY e.entry_number LIMIT ?`,
    ),
    tokenUses: db.prepare<[number, string, number], StoredTokenUse>(
      `SELECT u.token_number AS tokenNumber, t.token_id AS tokenId, u.spki_sha256 AS spkiSha256, u.leaf_index AS leafIndex,
         EXISTS (SELECT 1 FROM certificates AS c WHERE c.leaf_index = u.leaf_index AND c.token_number = u.token_number
           AND c.spki_sha256 = u.spki_sha256 AND c.predecessor IS NULL) AS certificateFits
       FROM token_uses AS u LEFT JOIN join_tokens AS t ON t.token_number = u.token_number
       WHERE (u.token_number, u.spki_sha256) > (?, ?) ORDER BY u.token_number, u.spki_sha256 LIMIT ?`,
    ),
  };
}

function prepareRevoked(db: Connection) {
  return {
    revocations: db.prepare<[number, number], StoredRevocation>(
      `${revocation} WHERE r.leaf_index > ? ORDER BY r.leaf_index LIMIT ?`,
    ),
    revocationsBySerial: db.prepare<[string, string, number], StoredRevocation>(
      `${revocation} WHERE r.issuer_key_id = ? AND r.serial > ? AND r.followed_by IS NULL ORDER BY r.serial LIMIT ?`,
    ),
    earlierRevocations: db.prepare<[string, string], StoredRevocation>(
      `${revocation} WHERE r.issuer_key_id = ? AND r.serial = ? AND r.followed_by IS NOT NULL ORDER BY r.leaf_index`,
    ),
    massRevocations: db.prepare<[number, number], StoredMassRevocation>(
      `SELECT leaf_index AS leafIndex, target, reason, invalidity_date_seconds AS invalidityDateSeconds, operator,
         started_at_ms AS startedAtMs, ended_by AS endedBy FROM mass_revocations WHERE leaf_index > ? ORDER BY leaf_index LIMIT ?`,
    ),
    blockedKeys: db.prepare<[string, number], StoredBlockedKey>(
      'SELECT spki_sha256 AS spkiSha256, leaf_index AS leafIndex FROM blocked_keys WHERE spki_sha256 > ? ORDER BY spki_sha256 LIMIT ?',
    ),
    certificateKey: db.prepare<[string, string], StoredKey>(
      `SELECT c.spki_sha256 AS spkiSha256, EXISTS (SELECT 1 FROM blocked_keys AS b WHERE b.spki_sha256 = c.spki_sha256) AS keyBlocked
       FROM certificates AS c WHERE c.issuer_key_id = ? AND c.serial = ?`,
    ),
    crls: db.prepare<[number, number], StoredCrl>(
      `SELECT leaf_index AS leafIndex, issuer_key_id AS issuerKeyId, scope, CAST(crl_number AS TEXT) AS crlNumber,
         this_update_seconds AS thisUpdateSeconds, next_update_seconds AS nextUpdateSeconds, scheduled, base,
         covers_tree_size AS coversTreeSize, signature, head, tail, pieces FROM crls WHERE leaf_index > ? ORDER BY leaf_index LIMIT ?`,
    ),
    crlScopes: db.prepare<[], StoredCrlScope>(
      `SELECT issuer_key_id AS issuerKeyId, scope, CAST(last_number AS TEXT) AS lastNumber,
         scheduled_this_update_seconds AS scheduledThisUpdateSeconds, scheduled_covers_tree_size AS scheduledCoversTreeSize
       FROM crl_scopes ORDER BY issuer_key_id, scope`,
    ),
  };
}
