import { VouchError } from '../core/errors.ts';
import { newSerial, type Serial } from '../core/serial.ts';
import type { CertificateRole, SpiffeId, TrustDomain } from '../core/spiffe-id.ts';
import { lintCertificate } from '../lint/certificate.ts';
import type { Finding } from '../lint/finding.ts';
import { lintResponder } from '../lint/responder.ts';
import { buildCertificateTbs } from '../x509/certificate-tbs.ts';
import { emptyName, rdnName } from '../x509/name.ts';
import type { PublicKeyInfo } from '../x509/public-key.ts';
import { crlShardUrl, fullCrlUrl, issuerUrl, ocspUrl, shardOf } from '../core/publication.ts';
import type { Issuer } from './issuer.ts';
import type { Profile } from './profile.ts';

/** The names that a certificate gets, all from a registration entry or from the server's own configuration (I4). */
export interface CertificateNames {
  spiffeId: SpiffeId;
  dnsNames: readonly string[];
  ipAddresses: readonly string[];
}

/** What stays the same for all certificates of a trust domain. */
export interface IssuanceSettings {
  trustDomain: TrustDomain;
  /** Base of the publication URLs, without a trailing slash. */
  publicationUrl: string;
  shardCount: number;
  serialPrefix: number;
  random: (size: number) => Buffer;
}

/** One certificate to prepare. */
export interface PrepareRequest {
  names: CertificateNames;
  publicKey: PublicKeyInfo;
  profile: Profile;
  lifetimeSeconds: number | undefined;
  role: CertificateRole;
  nowMs: number;
}

/** A to-be-signed certificate that passed the lint; nothing is signed yet. */
export interface PreparedCertificate {
  serial: Serial;
  tbs: Buffer;
  notBeforeMs: number;
  notAfterMs: number;
}

/**
 * Builds the TBS from the profile with a fresh serial and lints it. The CDP is the serial's shard. Throws
 * `policy-lint` with every finding, `unavailable-signer` where the issuer is about to expire.
 */
export function prepareCertificate(
  issuer: Issuer,
  settings: IssuanceSettings,
  request: PrepareRequest,
): PreparedCertificate {
  const serial = newSerial(settings.serialPrefix, settings.random);
  const { notBeforeSeconds, notAfterSeconds } = validity(issuer, request);
  const shardUrl = crlShardUrl(settings.publicationUrl, issuer.keyId, shardOf(serial, settings.shardCount));
  const tbs = buildCertificateTbs({
    serial,
    algorithm: issuer.algorithm,
    issuerName: issuer.issuerName,
    subjectName: subjectOf(request),
    notBeforeSeconds,
    notAfterSeconds,
    spki: request.publicKey.spki,
    uris: [request.names.spiffeId],
    dnsNames: request.names.dnsNames,
    ipAddresses: request.names.ipAddresses,
    authorityKeyId: issuer.keyId,
    subjectKeyId: request.publicKey.keyId,
    crlUrls: request.profile.fullCrlPoint
      ? [shardUrl, fullCrlUrl(settings.publicationUrl, issuer.keyId)]
      : [shardUrl],
    issuerUrl: issuerUrl(settings.publicationUrl, issuer.keyId),
    ocspUrl: request.profile.ocspPoint ? ocspUrl(settings.publicationUrl) : undefined,
    ocspSigning: request.role === 'responder',
  });
  const lint = request.role === 'responder' ? lintResponder : lintCertificate;
  const findings = lint(tbs, {
    spiffeId: request.names.spiffeId,
    trustDomain: settings.trustDomain,
    isServer: request.role === 'server',
    issuer: { nameDer: issuer.issuerName, notAfterMs: issuer.notAfterMs, keyId: issuer.keyId },
  });
  refuseFindings(findings);
  return { serial, tbs, notBeforeMs: notBeforeSeconds * 1000, notAfterMs: notAfterSeconds * 1000 };
}

/** Throws `policy-names` where the profile wants a common name that the entry cannot give. */
function subjectOf({ profile, names: { dnsNames } }: PrepareRequest): Buffer {
  return profile.subject === 'none' ? emptyName : rdnName({ commonName: dnsNames[0] ?? '' });
}

/** notAfter is inclusive, so a lifetime of an hour ends at now + 3,599 s (RFC 5280 §4.1.2.5). */
function validity(
  issuer: Issuer,
  request: PrepareRequest,
): { notBeforeSeconds: number; notAfterSeconds: number } {
  const nowSeconds = Math.floor(request.nowMs / 1000);
  const lifetime = Math.min(
    request.lifetimeSeconds ?? request.profile.lifetimeSeconds,
    request.profile.maxLifetimeSeconds,
  );
  const notAfterSeconds = Math.min(nowSeconds + lifetime - 1, Math.floor(issuer.notAfterMs / 1000));
  if (notAfterSeconds - nowSeconds < 60)
    throw new VouchError(
      'unavailable-signer',
      'the issuer expires within a minute; the operator must rotate it',
    );
  return { notBeforeSeconds: nowSeconds - request.profile.backdateSeconds, notAfterSeconds };
}

function refuseFindings(findings: readonly Finding[]): void {
  if (findings.length === 0) return;
  const text = findings
    .map((finding) => `${finding.rule}: ${finding.detail} (${finding.citation})`)
    .join('; ');
  throw new VouchError('policy-lint', `the certificate would break ${text}`);
}
