import type { Reason } from '../../core/reasons.ts';
import type { RegistrationEntry, Selector } from '../../core/registration.ts';
import type { Serial } from '../../core/serial.ts';
import type { SpiffeId, TrustDomain } from '../../core/spiffe-id.ts';
import type { CrlList } from '../../x509/crl-list.ts';
import type {
  AuthorityRecord,
  CertificateRecord,
  CertificateStanding,
  CrlRecord,
  JoinTokenRecord,
  MassRevocationRecord,
  RevocationRecord,
  StateIdentity,
} from '../records.ts';

/** A row of `state_identity`. */
export interface IdentityRow {
  state_id: string;
  trust_domain: TrustDomain;
  log_origin: string;
  serial_prefix: number;
  shard_count: number;
  created_at_ms: number;
}

/** A row of `authorities`. */
export interface AuthorityRow {
  key_id: string;
  kind: AuthorityRecord['kind'];
  state: AuthorityRecord['state'];
  algorithm: AuthorityRecord['algorithm'];
  certificate_der: Buffer;
}

/** A row of `entries`; lists are JSON. */
export interface EntryRow {
  entry_id: string;
  spiffe_id: SpiffeId;
  parent_id: SpiffeId | null;
  selectors: string;
  dns_names: string;
  ip_addresses: string;
  allowed_clients: string;
  hint: string;
  profile: string;
  lifetime_seconds: number | null;
  version: number;
  suspended_at_ms: number | null;
  created_at_ms: number;
}

/** A row of `join_tokens` with its entry's name, without the hash of its secret. */
export interface TokenRow {
  token_id: string;
  entry_id: string;
  uses_allowed: number;
  uses_taken: number;
  cidrs: string;
  expires_at_ms: number;
  created_at_ms: number;
  created_by: string;
  revoked_at_ms: number | null;
}

/** A row of `certificates` with the names of its entry and token. */
export interface CertificateRow {
  leaf_index: number;
  issuer_key_id: string;
  serial: Serial;
  spiffe_id: SpiffeId;
  entry_id: string | null;
  token_id: string | null;
  predecessor: Serial | null;
  /** Null where it starts its lineage. */
  lineage: Serial | null;
  spki_sha256: string;
  not_before_ms: number;
  not_after_ms: number;
  issued_at_ms: number;
  signature: Buffer | null;
  salt: Buffer;
  tbs: Buffer;
  decision: string;
  agent: SpiffeId | null;
  node: string | null;
}

/** A certificate joined with what decides whether it counts. */
export interface StandingRow extends CertificateRow {
  revoked_at_ms: number | null;
  reason: Reason | null;
  entry_suspended: number;
}

/** A row of `revocations`. */
export interface RevocationRow {
  leaf_index: number;
  issuer_key_id: string;
  serial: Serial;
  shard: number;
  revoked_at_ms: number;
  reason: Reason;
  invalidity_date_seconds: number | null;
  operator: string;
  salt: Buffer;
  not_after_ms: number;
  crl_date_seconds: number | null;
  may_leave: number;
  followed_by: number | null;
}

/** A row of `mass_revocations`. */
export interface MassRevocationRow {
  leaf_index: number;
  target: string;
  reason: Reason;
  invalidity_date_seconds: number | null;
  operator: string;
  started_at_ms: number;
  event_count: number;
  ended_by: number | null;
}

/** A row of `crls`; the number as text, since a JavaScript number cannot hold every 64-bit integer. */
export interface CrlRow {
  leaf_index: number;
  issuer_key_id: string;
  scope: string;
  crl_number: string;
  this_update_seconds: number;
  next_update_seconds: number;
  scheduled: number;
  base: number;
  covers_tree_size: number;
  signature: Buffer | null;
  head: Buffer;
  tail: Buffer;
  /** As `encodeIds` makes them. */
  pieces: Buffer;
}

/** The port's identity of its row. */
export function identityOf(row: IdentityRow): StateIdentity {
  return {
    stateId: row.state_id,
    trustDomain: row.trust_domain,
    logOrigin: row.log_origin,
    serialPrefix: row.serial_prefix,
    shardCount: row.shard_count,
    createdAtMs: row.created_at_ms,
  };
}

/** The port's authority of a row. */
export function authorityOf(row: AuthorityRow): AuthorityRecord {
  const { key_id: keyId, kind, state, algorithm, certificate_der: certificateDer } = row;
  return { keyId, kind, state, algorithm, certificateDer };
}

/** The port's registration entry of a row. */
export function entryOf(row: EntryRow): RegistrationEntry {
  return {
    entryId: row.entry_id,
    spiffeId: row.spiffe_id,
    parentId: row.parent_id ?? undefined,
    selectors: JSON.parse(row.selectors) as Selector[],
    dnsNames: JSON.parse(row.dns_names) as string[],
    ipAddresses: JSON.parse(row.ip_addresses) as string[],
    allowedClients: JSON.parse(row.allowed_clients) as string[],
    hint: row.hint,
    profile: row.profile,
    lifetimeSeconds: row.lifetime_seconds ?? undefined,
    version: row.version,
    suspendedAtMs: row.suspended_at_ms ?? undefined,
    createdAtMs: row.created_at_ms,
  };
}

/** The port's join token of a row. */
export function tokenOf(row: TokenRow): JoinTokenRecord {
  return {
    tokenId: row.token_id,
    entryId: row.entry_id,
    usesAllowed: row.uses_allowed,
    usesTaken: row.uses_taken,
    cidrs: JSON.parse(row.cidrs) as string[],
    expiresAtMs: row.expires_at_ms,
    createdAtMs: row.created_at_ms,
    createdBy: row.created_by,
    revokedAtMs: row.revoked_at_ms ?? undefined,
  };
}

/** The port's certificate of a row; without a stored lineage it starts its own. */
export function certificateOf(row: CertificateRow): CertificateRecord {
  return {
    issuerKeyId: row.issuer_key_id,
    serial: row.serial,
    spiffeId: row.spiffe_id,
    entryId: row.entry_id ?? undefined,
    tokenId: row.token_id ?? undefined,
    predecessor: row.predecessor ?? undefined,
    lineage: row.lineage ?? row.serial,
    agent: row.agent ?? undefined,
    node: row.node ?? undefined,
    spkiSha256: row.spki_sha256,
    notBeforeMs: row.not_before_ms,
    notAfterMs: row.not_after_ms,
    tbs: row.tbs,
    signature: row.signature ?? undefined,
    leafIndex: row.leaf_index,
    issuedAtMs: row.issued_at_ms,
    decision: row.decision,
    salt: row.salt,
  };
}

/** The port's certificate of a row, with how it stands. */
export function standingOf(row: StandingRow): CertificateStanding {
  const { revoked_at_ms: revokedAtMs, reason } = row;
  return Object.assign(certificateOf(row), {
    revoked: revokedAtMs === null || reason === null ? undefined : { revokedAtMs, reason },
    entrySuspended: row.entry_suspended !== 0,
  });
}

/** The port's revocation of a row. */
export function revocationOf(row: RevocationRow): RevocationRecord {
  return {
    issuerKeyId: row.issuer_key_id,
    serial: row.serial,
    shard: row.shard,
    revokedAtMs: row.revoked_at_ms,
    reason: row.reason,
    invalidityDateSeconds: row.invalidity_date_seconds ?? undefined,
    operator: row.operator,
    salt: row.salt,
    notAfterMs: row.not_after_ms,
    leafIndex: row.leaf_index,
    crlDateSeconds: row.crl_date_seconds ?? undefined,
    followedBy: row.followed_by ?? undefined,
    mayLeave: row.may_leave !== 0,
  };
}

/** The port's mass revocation of a row. */
export function massRevocationOf(row: MassRevocationRow): MassRevocationRecord {
  return {
    leafIndex: row.leaf_index,
    target: row.target,
    reason: row.reason,
    invalidityDateSeconds: row.invalidity_date_seconds ?? undefined,
    operator: row.operator,
    startedAtMs: row.started_at_ms,
    eventCount: row.event_count,
    endedBy: row.ended_by ?? undefined,
  };
}

/** The port's CRL of a row and what its pieces are. */
export function crlOf(row: CrlRow, list: CrlList): CrlRecord {
  return {
    issuerKeyId: row.issuer_key_id,
    scope: row.scope,
    crlNumber: BigInt(row.crl_number),
    thisUpdateSeconds: row.this_update_seconds,
    nextUpdateSeconds: row.next_update_seconds,
    scheduled: row.scheduled !== 0,
    base: row.base !== 0,
    coversTreeSize: row.covers_tree_size,
    leafIndex: row.leaf_index,
    tbs: { head: row.head, list, tail: row.tail },
    signature: row.signature ?? undefined,
  };
}
