import type { Serial } from '../../core/serial.ts';
import type { SpiffeId } from '../../core/spiffe-id.ts';
import type { ClockMark } from '../port.ts';
import type { JwtKeyRecord } from '../records.ts';
import type { Connection } from './connection.ts';
import type {
  AuthorityRow,
  CertificateRow,
  CrlRow,
  EntryRow,
  IdentityRow,
  MassRevocationRow,
  RevocationRow,
  StandingRow,
  TokenRow,
} from './rows.ts';
import { prepareRows } from './state-rows.ts';

const entryColumns = `entries.entry_id, entries.spiffe_id, entries.parent_id, entries.hint, entries.selectors, entries.dns_names, entries.ip_addresses,
  entries.allowed_clients, entries.profile, entries.lifetime_seconds, entries.version, entries.suspended_at_ms, entries.created_at_ms`;

const crlColumns = `leaf_index, issuer_key_id, scope, CAST(crl_number AS TEXT) AS crl_number, this_update_seconds,
  next_update_seconds, scheduled, base, covers_tree_size, signature, head, tail, pieces`;

/**
 * A parameter that SQLite's planner does not look into. Compared bare in a join or beside ORDER BY, a parameter makes
 * SQLite prepare the statement again at each run (no QPSG in better-sqlite3): 50 µs instead of 12.
 */
const opaque = '(SELECT ?)';

/** Those of a parent that are not deleted. Left to itself, SQLite walks through the deleted ones, too. */
const ofParent = `entries INDEXED BY entries_by_parent WHERE parent_id IS NOT NULL AND deleted_at_ms IS NULL AND parent_id`;

const token = `SELECT t.token_id, e.entry_id, t.uses_allowed, t.uses_taken, t.cidrs, t.expires_at_ms, t.created_at_ms, t.created_by,
  t.revoked_at_ms FROM join_tokens AS t CROSS JOIN entries AS e ON e.entry_number = t.entry_number`;

/** Certificates of a token are certificates of its entry, and found by that. */
const ofToken = `entry_number = (SELECT entry_number FROM join_tokens WHERE token_id = @tokenId)
  AND token_number = (SELECT token_number FROM join_tokens WHERE token_id = @tokenId)`;

type OfToken = { tokenId: string };

const record = `c.*, e.entry_id, t.token_id`;

const named = `LEFT JOIN entries AS e ON e.entry_number = c.entry_number
  LEFT JOIN join_tokens AS t ON t.token_number = c.token_number`;

const standing = `SELECT ${record}, r.revoked_at_ms, r.reason, (e.suspended_at_ms IS NOT NULL OR e.deleted_at_ms IS NOT NULL) AS entry_suspended
  FROM certificates AS c
  LEFT JOIN revocations AS r ON r.serial = c.serial AND r.issuer_key_id = c.issuer_key_id
    AND r.followed_by IS NULL AND r.reason <> 'removeFromCRL'
  ${named}`;

/**
 * A page of unexpired certificates, the last to expire first, from an index that ends with not_after_ms, so that it
 * costs what it gives. Behind a position `(not_after_ms, leaf_index)`.
 */
const unexpired = (condition: string): string =>
  `${standing} WHERE c.leaf_index IN (SELECT leaf_index FROM certificates
     WHERE ${condition} AND (not_after_ms, leaf_index) < ((SELECT @ms), (SELECT @leafIndex)) AND not_after_ms >= (SELECT @nowMs)
     ORDER BY not_after_ms DESC, leaf_index DESC LIMIT (SELECT @limit))
   ORDER BY c.not_after_ms DESC, c.leaf_index DESC`;

/** Where a page of unexpired certificates begins, and of how many. */
type Unexpired = { ms: number; leafIndex: number; nowMs: number; limit: number };

/** What stands on CRLs, or is to; the words of the partial indexes. */
const onCrls = `followed_by IS NULL AND may_leave = 0 AND reason <> 'removeFromCRL'`;

/** Every reading statement, prepared once for a connection; together, so that a test can ask for each one's plan. */
export function prepareReads(db: Connection) {
  return {
    ...prepareNamed(db),
    ...prepareCertificates(db),
    ...prepareLog(db),
    ...prepareRevocation(db),
    ...prepareMassRevocations(db),
    rows: prepareRows(db),
  };
}

/** What `prepareReads` gives. */
export type ReadStatements = ReturnType<typeof prepareReads>;

function prepareNamed(db: Connection) {
  return {
    identity: db.prepare<[], IdentityRow>('SELECT * FROM state_identity'),
    authorities: db.prepare<[], AuthorityRow>('SELECT * FROM authorities ORDER BY authority_number'),
    authority: db.prepare<[string], AuthorityRow>('SELECT * FROM authorities WHERE key_id = ?'),
    entry: db.prepare<[string], EntryRow>(
      `SELECT ${entryColumns} FROM entries WHERE entry_id = ? AND deleted_at_ms IS NULL`,
    ),
    entryNumber: db.prepare<[string], number>('SELECT entry_number FROM entries WHERE entry_id = ?').pluck(),
    entriesMatching: db.prepare<[string], EntryRow>(
      `SELECT ${entryColumns} FROM (
         SELECT entry_number, count(*) AS matched FROM entry_selectors
         WHERE selector IN (SELECT value FROM json_each(?)) GROUP BY entry_number
       ) AS found
       CROSS JOIN entries ON entries.entry_number = found.entry_number AND entries.selector_count = found.matched
         AND entries.deleted_at_ms IS NULL
       ORDER BY entries.created_at_ms, entries.entry_number`,
    ),
    entries: db.prepare<[number, number], EntryRow>(
      `SELECT ${entryColumns} FROM entries WHERE entry_number < ? AND deleted_at_ms IS NULL ORDER BY entry_number DESC LIMIT ?`,
    ),
    entriesOfSpiffeId: db.prepare<[SpiffeId, number, number], EntryRow>(
      `SELECT ${entryColumns} FROM entries WHERE spiffe_id = ? AND entry_number < ? AND deleted_at_ms IS NULL
       ORDER BY entry_number DESC LIMIT ?`,
    ),
    entriesOfParent: db.prepare<
      [{ parentId: SpiffeId; spiffeId: SpiffeId | null; before: number; limit: number }],
      EntryRow
    >(
      `SELECT ${entryColumns} FROM ${ofParent} = (SELECT @parentId)
         AND spiffe_id IS coalesce(@spiffeId, spiffe_id) AND entry_number < (SELECT @before)
       ORDER BY entry_number DESC LIMIT (SELECT @limit)`,
    ),
    countOfParent: db.prepare<[SpiffeId], number>(`SELECT count(*) FROM ${ofParent} = ${opaque}`).pluck(),
    entriesChangedBy: db
      .prepare<[SpiffeId], number | null>(
        `SELECT max(changed_by) FROM entries WHERE parent_id = ${opaque} AND parent_id IS NOT NULL`,
      )
      .pluck(),
    token: db.prepare<[string], TokenRow>(`${token} WHERE t.token_id = ${opaque}`),
    tokenBySecret: db.prepare<[Buffer], TokenRow>(`${token} WHERE t.secret_sha256 = ${opaque}`),
    tokenNumber: db
      .prepare<[string], number>('SELECT token_number FROM join_tokens WHERE token_id = ?')
      .pluck(),
    tokens: db.prepare<[number, number], TokenRow>(
      `${token} WHERE t.token_number < ${opaque} ORDER BY t.token_number DESC LIMIT ?`,
    ),
    liveTokensOf: db.prepare<[string, number, number], TokenRow>(
      `${token} WHERE t.created_by = ? AND t.expires_at_ms > ? AND t.revoked_at_ms IS NULL ORDER BY t.expires_at_ms DESC LIMIT ?`,
    ),
  };
}

function prepareCertificates(db: Connection) {
  return {
    certificate: db.prepare<[Serial, string], StandingRow>(
      `${standing} WHERE c.serial = ${opaque} AND c.issuer_key_id = ${opaque}`,
    ),
    certificatesBySerial: db.prepare<[Serial], StandingRow>(
      `${standing} WHERE c.serial = ${opaque} ORDER BY c.leaf_index`,
    ),
    certificates: db.prepare<[number, number], StandingRow>(
      `${standing} WHERE c.leaf_index < ${opaque} ORDER BY c.leaf_index DESC LIMIT ?`,
    ),
    certificatesOfSpiffeId: db.prepare<[SpiffeId, number, number], StandingRow>(
      `${standing} WHERE c.leaf_index IN (SELECT leaf_index FROM certificates
         WHERE spiffe_id = ? AND leaf_index < ? ORDER BY leaf_index DESC LIMIT ?) ORDER BY c.leaf_index DESC`,
    ),
    certificatesOfToken: db.prepare<
      [OfToken & { spiffeId: SpiffeId | null; before: number; limit: number }],
      StandingRow
    >(
      `${standing} WHERE c.leaf_index IN (SELECT leaf_index FROM certificates
         WHERE ${ofToken} AND spiffe_id IS coalesce(@spiffeId, spiffe_id) AND leaf_index < @before
         ORDER BY leaf_index DESC LIMIT @limit)
       ORDER BY c.leaf_index DESC`,
    ),
    certificatesByLeaf: db.prepare<[number, number], CertificateRow>(
      `SELECT ${record} FROM certificates AS c ${named} WHERE c.leaf_index >= ${opaque} ORDER BY c.leaf_index LIMIT ?`,
    ),
    unexpiredOfLineage: db.prepare<[Unexpired & { lineage: Serial }], StandingRow>(
      unexpired('(serial = (SELECT @lineage) AND lineage IS NULL OR lineage = (SELECT @lineage))'),
    ),
    unexpiredOfSpiffeId: db.prepare<[Unexpired & { spiffeId: SpiffeId }], StandingRow>(
      unexpired('spiffe_id = (SELECT @spiffeId)'),
    ),
    unexpiredOfToken: db.prepare<[Unexpired & OfToken], StandingRow>(unexpired(ofToken)),
    unexpiredOfEntry: db.prepare<[Unexpired & { entryId: string }], StandingRow>(
      unexpired('entry_number = (SELECT entry_number FROM entries WHERE entry_id = @entryId)'),
    ),
    unexpiredOfOperator: db.prepare<[Unexpired & { operator: string }], StandingRow>(
      unexpired('operator = (SELECT @operator)'),
    ),
    unexpiredOfAgent: db.prepare<[Unexpired & { agentId: SpiffeId }], StandingRow>(
      unexpired('agent = (SELECT @agentId)'),
    ),
    unexpiredOfNode: db.prepare<[Unexpired & { node: string }], StandingRow>(
      unexpired('node = (SELECT @node)'),
    ),
    unexpiredOfKey: db.prepare<[Unexpired & { spkiSha256: string }], StandingRow>(
      unexpired('spki_sha256 = (SELECT @spkiSha256)'),
    ),
    unexpiredIssuedBetween: db.prepare<[Unexpired & { issuedMs: number; fromMs: number }], StandingRow>(
      `${standing} WHERE c.leaf_index IN (SELECT leaf_index FROM certificates
         WHERE (issued_at_ms, not_after_ms, leaf_index) < ((SELECT @issuedMs), (SELECT @ms), (SELECT @leafIndex)) AND issued_at_ms >= (SELECT @fromMs) AND not_after_ms >= (SELECT @nowMs)
         ORDER BY issued_at_ms DESC, not_after_ms DESC, leaf_index DESC LIMIT @limit)
       ORDER BY c.issued_at_ms DESC, c.not_after_ms DESC, c.leaf_index DESC`,
    ),
    certificateTimes: db.prepare<[number], { issued_at_ms: number; not_after_ms: number }>(
      'SELECT issued_at_ms, not_after_ms FROM certificates WHERE leaf_index = ?',
    ),
    certificateOfTokenUse: db.prepare<[string, string], StandingRow>(
      `${standing} WHERE c.leaf_index = (SELECT leaf_index FROM token_uses
         WHERE token_number = (SELECT token_number FROM join_tokens WHERE token_id = ?) AND spki_sha256 = ?)`,
    ),
    takeOver: db.prepare<[Serial, Serial, string], StandingRow>(
      `${standing} WHERE c.leaf_index = (SELECT leaf_index FROM certificates
         WHERE lineage = ? AND predecessor = ? AND spki_sha256 = ?)`,
    ),
  };
}

function prepareLog(db: Connection) {
  return {
    treeSize: db.prepare<[], number>('SELECT coalesce(max(leaf_index) + 1, 0) FROM leaves').pluck(),
    leafHashes: db
      .prepare<[number, number], Buffer>(
        'SELECT hash FROM leaves WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index',
      )
      .pluck(),
    leaves: db
      .prepare<[number, number], Buffer>(
        'SELECT bytes FROM leaves WHERE leaf_index >= ? AND leaf_index < ? ORDER BY leaf_index',
      )
      .pluck(),
    checkpointNote: db.prepare<[], string | null>('SELECT checkpoint_note FROM marks').pluck(),
    rewindEvidence: db.prepare<[], string | null>('SELECT rewind_evidence FROM marks').pluck(),
    clockMark: db.prepare<[], ClockMark>(
      'SELECT clock_ms AS wallMs, clock_monotonic_ms AS monotonicMs, clock_boot_id AS bootId FROM marks',
    ),
  };
}

function prepareRevocation(db: Connection) {
  return {
    issuedBy: db.prepare<[number, string, number, number], { last_not_after_ms: number; unexpired: number }>(
      `SELECT coalesce(max(not_after_ms), 0) AS last_not_after_ms, count(*) FILTER (WHERE not_after_ms >= ?) AS unexpired
       FROM certificates WHERE issuer_key_id = ? AND leaf_index >= ? AND leaf_index < ?`,
    ),
    standingBySerial: db.prepare<[string, string, number], RevocationRow>(
      `SELECT * FROM revocations WHERE issuer_key_id = ? AND serial > ? AND ${onCrls} ORDER BY serial LIMIT ?`,
    ),
    expiredStanding: db.prepare<[string, number, number], RevocationRow>(
      `SELECT * FROM revocations WHERE issuer_key_id = ? AND not_after_ms < ? AND ${onCrls} ORDER BY not_after_ms, leaf_index LIMIT ?`,
    ),
    // The unary pluses keep SQLite from walking all that stand instead of the few since that leaf.
    revocationsAfter: db.prepare<[number, string, number], RevocationRow>(
      `SELECT * FROM revocations WHERE leaf_index > ? AND +issuer_key_id = ? AND +followed_by IS NULL AND +may_leave = 0
       ORDER BY leaf_index LIMIT ?`,
    ),
    revocation: db.prepare<[Serial, string], RevocationRow>(
      'SELECT * FROM revocations WHERE serial = ? AND issuer_key_id = ? AND followed_by IS NULL',
    ),
    revocationOfLeaf: db.prepare<[number], RevocationRow>('SELECT * FROM revocations WHERE leaf_index = ?'),
    earlierRevocations: db.prepare<[Serial, string], RevocationRow>(
      `SELECT * FROM revocations WHERE serial = ? AND issuer_key_id = ? AND followed_by IS NOT NULL ORDER BY leaf_index`,
    ),
    revocationBefore: db.prepare<[Serial, string, number], RevocationRow>(
      `SELECT * FROM revocations WHERE serial = ? AND issuer_key_id = ? AND followed_by IS NOT NULL AND leaf_index < ?
       ORDER BY leaf_index DESC LIMIT 1`,
    ),
    blockedKey: db.prepare<[string], number>('SELECT 1 FROM blocked_keys WHERE spki_sha256 = ?').pluck(),
    lastCrls: db.prepare<[string], CrlRow>(
      `SELECT ${crlColumns} FROM crls WHERE leaf_index IN (
         SELECT (SELECT leaf_index FROM crls AS c
                 WHERE c.issuer_key_id = s.issuer_key_id AND c.scope = s.scope AND c.signature IS NOT NULL
                 ORDER BY c.crl_number DESC LIMIT 1)
         FROM crl_scopes AS s WHERE s.issuer_key_id = ?) ORDER BY scope`,
    ),
    baseCrl: db.prepare<[string], CrlRow>(
      `SELECT ${crlColumns} FROM crls WHERE issuer_key_id = ? AND scope = 'full' AND signature IS NOT NULL AND base = 1
       ORDER BY crls.crl_number DESC LIMIT 1`,
    ),
    crlPiece: db.prepare<[number], Buffer>('SELECT bytes FROM crl_pieces WHERE piece_id = ?').pluck(),
    lastPiece: db.prepare<[], number | null>('SELECT max(piece_id) FROM crl_pieces').pluck(),
    scheduledUpdates: db.prepare<[string], { scope: string; scheduled_this_update_seconds: number }>(
      `SELECT scope, scheduled_this_update_seconds FROM crl_scopes
       WHERE issuer_key_id = ? AND scheduled_this_update_seconds IS NOT NULL`,
    ),
    statement: db.prepare<[], string>('SELECT jws FROM statements ORDER BY sequence DESC LIMIT 1').pluck(),
    crossChain: db
      .prepare<[], string>('SELECT chain_pem FROM cross_certificates ORDER BY leaf_index DESC LIMIT 1')
      .pluck(),
    jwtKeys: db.prepare<[], JwtKeyRecord>(
      `SELECT leaf_index AS leafIndex, issuer_key_id AS issuerKeyId, key_id AS keyId, public_key AS publicKeySpki
       FROM jwt_keys ORDER BY leaf_index`,
    ),
    crls: db.prepare<[], CrlRow>(`SELECT ${crlColumns} FROM crls ORDER BY leaf_index`),
    crlsOf: db.prepare<[string], CrlRow>(
      `SELECT ${crlColumns} FROM crls WHERE issuer_key_id = ? ORDER BY +leaf_index`,
    ),
    lastCrlNumber: db
      .prepare<[string], string>(
        'SELECT CAST(coalesce(max(last_number), 0) AS TEXT) FROM crl_scopes WHERE issuer_key_id = ?',
      )
      .pluck(),
    lastCrlNumberOfScope: db
      .prepare<[string, string], string>(
        'SELECT CAST(last_number AS TEXT) FROM crl_scopes WHERE issuer_key_id = ? AND scope = ?',
      )
      .pluck(),
  };
}

function prepareMassRevocations(db: Connection) {
  return {
    massRevocation: db.prepare<[number], MassRevocationRow>(
      'SELECT * FROM mass_revocations WHERE leaf_index = ?',
    ),
    unfinishedMassRevocations: db.prepare<[], MassRevocationRow>(
      'SELECT * FROM mass_revocations WHERE ended_by IS NULL ORDER BY leaf_index',
    ),
  };
}
