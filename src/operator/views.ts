import { rfc3339 } from '../core/clock.ts';
import { type RegistrationEntry, selectorText } from '../core/registration.ts';
import type { PublishedCrl } from '../revocation/published-crls.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding, JoinTokenRecord, RevocationRecord } from '../store/records.ts';

/** A certificate as operators see it; `state` is what counts now. */
export function certificateView(certificate: CertificateStanding, nowMs: number) {
  return {
    serial: certificate.serial,
    spiffeId: certificate.spiffeId,
    state: stateOf(certificate, nowMs),
    notBefore: rfc3339(certificate.notBeforeMs),
    notAfter: rfc3339(certificate.notAfterMs),
    issuerKeyId: certificate.issuerKeyId,
    entryId: certificate.entryId ?? null,
    tokenId: certificate.tokenId ?? null,
    agent: certificate.agent ?? null,
    node: certificate.node ?? null,
    predecessor: certificate.predecessor ?? null,
    lineage: certificate.lineage,
    logIndex: certificate.leafIndex,
    revokedAt: certificate.revoked ? rfc3339(certificate.revoked.revokedAtMs) : null,
    reason: certificate.revoked?.reason ?? null,
  };
}

/** Why a certificate exists: the decision that stands salted in its leaf, the entry it came from, what became of it. */
export function explanation(certificate: CertificateStanding, store: StoreReader, nowMs: number) {
  const entry = certificate.entryId === undefined ? undefined : store.entry(certificate.entryId);
  const token = certificate.tokenId === undefined ? undefined : store.token(certificate.tokenId);
  const decision: unknown = JSON.parse(certificate.decision);
  const events = store.revocationEvents(certificate.issuerKeyId, certificate.serial).map(eventView);
  return {
    certificate: certificateView(certificate, nowMs),
    decision,
    salt: certificate.salt.toString('hex'),
    issuedAt: rfc3339(certificate.issuedAtMs),
    signed: certificate.signature !== undefined,
    entry: entry ? entryView(entry) : null,
    token: token ? tokenView(token) : null,
    revocation: certificate.revoked ? (events.at(-1) ?? null) : null,
    revocationEvents: events,
  };
}

/** A registration entry. */
export function entryView(entry: RegistrationEntry) {
  return {
    entryId: entry.entryId,
    spiffeId: entry.spiffeId,
    parentId: entry.parentId ?? null,
    selectors: entry.selectors.map(selectorText),
    dnsNames: entry.dnsNames,
    ipAddresses: entry.ipAddresses,
    allowedClients: entry.allowedClients,
    hint: entry.hint,
    profile: entry.profile,
    lifetimeSeconds: entry.lifetimeSeconds ?? null,
    version: entry.version,
    suspendedAt: entry.suspendedAtMs === undefined ? null : rfc3339(entry.suspendedAtMs),
    createdAt: rfc3339(entry.createdAtMs),
  };
}

/** What was deleted, and what of it goes on to count. */
export function deletedEntryView(
  { entryId, spiffeId, parentId }: RegistrationEntry,
  deletedAtMs: number,
  left: { certificateCount: number; validUntil: string | null },
) {
  const { certificateCount, validUntil } = left;
  const names = { entryId, spiffeId, parentId: parentId ?? null };
  return { ...names, deletedAt: rfc3339(deletedAtMs), certificateCount, validUntil };
}

/** A join token without its secret, which nobody has but the join file. */
export function tokenView(token: JoinTokenRecord) {
  return {
    tokenId: token.tokenId,
    entryId: token.entryId,
    usesAllowed: token.usesAllowed,
    usesTaken: token.usesTaken,
    cidrs: token.cidrs,
    expiresAt: rfc3339(token.expiresAtMs),
    createdAt: rfc3339(token.createdAtMs),
    createdBy: token.createdBy,
    revokedAt: token.revokedAtMs === undefined ? null : rfc3339(token.revokedAtMs),
  };
}

/** A CRL as it is served. */
export function crlView(crl: PublishedCrl) {
  return {
    issuerKeyId: crl.issuerKeyId,
    scope: crl.scope,
    crlNumber: Number(crl.crlNumber),
    thisUpdate: rfc3339(crl.thisUpdateSeconds * 1000),
    nextUpdate: rfc3339(crl.nextUpdateSeconds * 1000),
    url: crl.url,
  };
}

/** A revocation, a hold, or a release (reason `removeFromCRL`). */
function eventView(event: RevocationRecord) {
  const { invalidityDateSeconds } = event;
  return {
    revokedAt: rfc3339(event.revokedAtMs),
    reason: event.reason,
    invalidityDate: invalidityDateSeconds === undefined ? null : rfc3339(invalidityDateSeconds * 1000),
    operator: event.operator,
    logIndex: event.leafIndex,
    shard: event.shard,
  };
}

function stateOf(certificate: CertificateStanding, nowMs: number): string {
  if (certificate.revoked) return 'revoked';
  if (nowMs > certificate.notAfterMs) return 'expired';
  return certificate.entrySuspended ? 'suspended' : 'valid';
}
