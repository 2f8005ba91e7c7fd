import { VouchError } from '../core/errors.ts';
import {
  isReserved,
  parseSpiffeId,
  type SpiffeId,
  serverSpiffeId,
  type TrustDomain,
  trustDomainOf,
} from '../core/spiffe-id.ts';
import { type ParsedTbs, parseTbsCertificate } from '../x509/certificate.ts';
import { emptyName, isCommonName } from '../x509/name.ts';
import { keyIdOf } from '../x509/public-key.ts';
import type { SigningLimits } from './authority-file.ts';
import type { PolicyIssuer } from './policy-issuer.ts';

/** What a certificate is compared with. */
export interface CertificateBounds {
  issuer: PolicyIssuer;
  issuers: ReadonlyMap<string, PolicyIssuer>;
  trustDomain: TrustDomain;
  limits: SigningLimits;
  nowMs: number;
  /** When its leaf says that it was logged. */
  leafTimeMs: number;
  occasion: 'first' | 'again';
  /** The server's own TLS certificate: exactly its reserved name. */
  isServer: boolean;
  /** DER SubjectPublicKeyInfo of the key that answers OCSP, where there is one. */
  ocspSpki?: Buffer | undefined;
  /** DER SubjectPublicKeyInfo of the key that signs JWT-SVIDs, where there is one. */
  jwtSpki?: Buffer | undefined;
}

/** A batch may wait this long between the decision of its notBefore and its signature: deadline and respawn. */
const waitSeconds = 30;

/** I2: one fixed byte in 0x01-0x7f, 16 random ones. */
export const serialGrammar = /^(?:0[1-9a-f]|[1-7][0-9a-f])[0-9a-f]{32}$/;

/** All that a leaf certificate of ours carries; whatever else is in a TBS was not put there by our builder. */
export const allowedExtensions: ReadonlySet<string> = new Set([
  '2.5.29.14', // subjectKeyIdentifier
  '2.5.29.15', // keyUsage
  '2.5.29.17', // subjectAltName
  '2.5.29.19', // basicConstraints
  '2.5.29.31', // cRLDistributionPoints
  '2.5.29.32', // certificatePolicies
  '2.5.29.35', // authorityKeyIdentifier
  '2.5.29.37', // extKeyUsage
  '1.3.6.1.5.5.7.1.1', // authorityInfoAccess
]);

/** No anyExtendedKeyUsage, and no OCSPSigning: that would speak for the issuer. */
const allowedUsages: ReadonlySet<string> = new Set(['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2']);

/**
 * The signer's own look at a certificate before an issuer's key signs it (I11): no CA, no other issuer, no longer
 * validity, no name that is not a workload's. Throws `policy-lint`, `policy-names`, or the reader's `request-…`.
 */
export function checkCertificate(tbs: Buffer, bounds: CertificateBounds): void {
  const certificate = parseTbsCertificate(tbs);
  checkIssuer(certificate, bounds);
  if (bounds.ocspSpki?.equals(certificate.spki)) refuse('it certifies the key that answers OCSP');
  if (bounds.jwtSpki?.equals(certificate.spki)) refuse('it certifies the key that signs JWT-SVIDs');
  checkUsage(certificate);
  checkValidity(certificate, bounds);
  checkSubject(certificate);
  checkName(certificate, bounds);
}

/** Serial, issuer, algorithm and key identifiers. Throws `policy-lint`. */
export function checkIssuer(certificate: ParsedTbs, { issuer, issuers }: CertificateBounds): void {
  if (!serialGrammar.test(certificate.serial)) refuse('its serial is not one fixed byte and 16 random ones');
  if (certificate.algorithm !== issuer.algorithm) refuse("its algorithm is not its issuer's");
  if (!certificate.issuerName.equals(issuer.nameDer)) refuse('it names another issuer');
  if (certificate.authorityKeyId !== issuer.keyId) refuse('its authorityKeyId is not its issuer');
  const keyId = keyIdOf(certificate.spki);
  if (certificate.subjectKeyId !== keyId) refuse("its subjectKeyId is not its key's");
  if (issuers.has(keyId)) refuse('it certifies the key of an issuer');
  for (const { nameDer } of issuers.values())
    if (certificate.subjectName.equals(nameDer)) refuse("its subject is an issuer's name");
}

function checkUsage(certificate: ParsedTbs): void {
  checkSigningOnly(certificate, allowedExtensions);
  const { extendedKeyUsage } = certificate;
  if (!extendedKeyUsage || extendedKeyUsage.length === 0) refuse('it has no extKeyUsage');
  if (!extendedKeyUsage.every((usage) => allowedUsages.has(usage)))
    refuse('it has an extKeyUsage beyond TLS');
}

/** No CA's usages and constraints, and no extension but these. Throws `policy-lint`. */
export function checkSigningOnly(certificate: ParsedTbs, extensions: ReadonlySet<string>): void {
  const { basicConstraints, keyUsage, nameConstraints } = certificate;
  if (!basicConstraints?.critical) refuse('it has no critical basicConstraints');
  if (basicConstraints.isCa || basicConstraints.pathLength !== undefined) refuse('it is a CA certificate');
  if (!keyUsage?.critical || !keyUsage.digitalSignature)
    refuse('it has no critical keyUsage digitalSignature');
  if (keyUsage.keyCertSign || keyUsage.cRLSign) refuse('it may sign certificates or CRLs');
  const unknown = certificate.extensionOids.find((oid) => !extensions.has(oid));
  if (unknown !== undefined) refuse(`it has the extension ${unknown}`);
  if (certificate.criticalUnknown.length > 0 || nameConstraints) refuse('it has a constraint of a CA');
}

/** Within the issuer's validity and the limits, and about now. Throws `policy-lint`. */
export function checkValidity(certificate: ParsedTbs, bounds: CertificateBounds): void {
  const { issuer, limits, nowMs } = bounds;
  const { notBeforeMs, notAfterMs } = certificate;
  const lifetimeMs = limits.maxCertificateSeconds * 1000;
  const backdateMs = (limits.backdateSeconds + limits.maxFutureSeconds + waitSeconds) * 1000;
  if (notAfterMs < notBeforeMs) refuse('it ends before it begins');
  if (notAfterMs > issuer.notAfterMs) refuse('it outlives its issuer');
  if (notBeforeMs > nowMs + limits.maxFutureSeconds * 1000) refuse('its notBefore is in the future');
  if (notAfterMs > nowMs + lifetimeMs + limits.maxFutureSeconds * 1000) refuse('it is valid for too long');
  // A whole second at both ends counts (RFC 5280 §4.1.2.5).
  if (notAfterMs - notBeforeMs + 1000 > lifetimeMs + backdateMs) refuse('it is valid for too long');
  if (notAfterMs < nowMs) refuse('it has expired');
  if (bounds.occasion === 'first') checkFirst(certificate, bounds, backdateMs);
  else checkAgain(certificate, bounds, backdateMs);
}

function checkFirst({ notBeforeMs }: ParsedTbs, bounds: CertificateBounds, backdateMs: number): void {
  const { nowMs, leafTimeMs, limits } = bounds;
  if (notBeforeMs < nowMs - backdateMs) refuse('its notBefore is too far back');
  if (Math.abs(leafTimeMs - nowMs) > (limits.maxFutureSeconds + waitSeconds) * 1000)
    refuse('its leaf is of another time');
}

/**
 * What was refused for being backdated is not signed later: it is judged by its leaf's time. A leaf may lie, and nobody
 * remembers what was refused, so it must be in the first half of its life, too; the server signs none again past that.
 */
function checkAgain(
  certificate: ParsedTbs,
  { nowMs, leafTimeMs }: CertificateBounds,
  backdateMs: number,
): void {
  const { notBeforeMs, notAfterMs } = certificate;
  if (notBeforeMs < leafTimeMs - backdateMs) refuse('its notBefore is too far back');
  if (nowMs > (notBeforeMs + notAfterMs) / 2 + backdateMs) refuse('half of its life is over');
}

/** RFC 5280 §4.1.2.6: nobody is named by a subject that is no DNS name of the certificate, too. */
function checkSubject({ subjectName, dnsNames, sanCritical }: ParsedTbs): void {
  const isEmpty = subjectName.equals(emptyName);
  if (!isEmpty && !isCommonName(subjectName, dnsNames[0]))
    refuseName('its subject is not its first DNS name alone');
  if (isEmpty !== sanCritical)
    refuse('its subjectAltName is critical where its subject is not empty, or the reverse');
}

function checkName(certificate: ParsedTbs, { trustDomain, isServer }: CertificateBounds): void {
  const [uri, ...more] = certificate.uris;
  if (uri === undefined || more.length > 0) refuseName('it must have exactly one URI name');
  if (certificate.otherNames > 0) refuseName('it has names of a kind that Vouch does not issue');
  const spiffeId: SpiffeId = parseSpiffeId(uri);
  if (trustDomainOf(spiffeId) !== trustDomain) refuseName('its SPIFFE ID is of another trust domain');
  if (isServer && spiffeId !== serverSpiffeId(trustDomain)) refuseName("it is not the server's own name");
  if (!isServer && isReserved(spiffeId)) refuseName('its SPIFFE ID is under /vouch/, which is reserved');
}

/** Refuses with `policy-lint`. */
export function refuse(why: string): never {
  throw new VouchError('policy-lint', `the signer refuses this certificate: ${why}`);
}

function refuseName(why: string): never {
  throw new VouchError('policy-names', `the signer refuses this certificate: ${why}`);
}
