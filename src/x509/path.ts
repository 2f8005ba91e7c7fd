import { hash } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import {
  parseSpiffeId,
  parseTrustDomain,
  type TrustDomain,
  trustDomainId,
  trustDomainOf,
} from '../core/spiffe-id.ts';
import { verifySignature } from './algorithm.ts';
import { type ParsedCertificate, parseCertificate } from './certificate.ts';
import { constraintViolation } from './name-constraints.ts';
import { oids } from './oids.ts';
import { importPublicKey } from './public-key.ts';

/** What to validate, and against what. */
export interface PathOptions {
  /** DER, leaf first, each followed by its issuer; the root may stand last. */
  chain: readonly Buffer[];
  /** DER, self-signed: the trust bundle of one trust domain. */
  roots: readonly Buffer[];
  nowMs: number;
  /** How far the clocks may differ; default 0. */
  skewMs?: number | undefined;
  /** Needed only where the root carries no SPIFFE ID; where it does, both must agree. */
  trustDomain?: TrustDomain | undefined;
}

/** Leaf, issuers, root: more than any CA of ours or above us has. */
const maxChain = 8;
const maxRoots = 64;

/**
 * Validates an X509-SVID's path: RFC 5280 §6.1 for what Vouch issues (signatures, validity, CA rights, path length,
 * name constraints, unknown critical extensions, names and key ids that chain) and X509-SVID §5 for the leaf. Returns
 * leaf first, root last. Whether one is revoked is the caller's question. Throws `denied-certificate`.
 */
export function validatePath(options: PathOptions): ParsedCertificate[] {
  const { chain, roots } = options;
  if (chain.length === 0 || chain.length > maxChain)
    refuse(`the chain must have 1 to ${maxChain} certificates`);
  if (roots.length === 0 || roots.length > maxRoots) refuse(`the bundle must have 1 to ${maxRoots} roots`);
  const path = withRoot(chain.map(parsed), roots);
  const [leaf, ...authorities] = path;
  const root = authorities.at(-1);
  if (!leaf || !root) return refuse('a root cannot stand for a workload');
  if (!isSelfIssued(root)) refuse('a root of the bundle is not self-signed');
  path.forEach((certificate) => {
    checkValidity(certificate, options);
    if (certificate.criticalUnknown.length > 0)
      refuse(`it has critical extensions that are not understood: ${certificate.criticalUnknown.join(', ')}`);
  });
  authorities.forEach((authority, index) => {
    checkAuthority(authority, path.slice(1, index + 1));
    checkConstraints(authority, path.slice(0, index + 1));
  });
  const trustDomain = trustDomainOfRoot(root, options.trustDomain);
  authorities.forEach((authority) => checkAuthorityId(authority, trustDomain));
  checkSvid(leaf, trustDomain);
  path.forEach((certificate, index) => {
    checkSignature(certificate, path[index + 1] ?? root);
  });
  return path;
}

/**
 * Validates a CA certificate that a root of the bundle signed, as `validatePath` does with one in a chain. Throws
 * `denied-certificate`.
 */
export function validateAuthority(der: Buffer, options: Omit<PathOptions, 'chain'>): ParsedCertificate {
  const [authority, root] = withRoot([parsed(der)], options.roots);
  if (!authority || !root) return refuse("a root is nobody's issuer");
  if (!isSelfIssued(root)) refuse('a root of the bundle is not self-signed');
  for (const [index, certificate] of [authority, root].entries()) {
    checkValidity(certificate, options);
    if (certificate.criticalUnknown.length > 0)
      refuse(`it has critical extensions that are not understood: ${certificate.criticalUnknown.join(', ')}`);
    checkAuthority(certificate, index === 0 ? [] : [authority]);
    checkAuthorityId(certificate, trustDomainOfRoot(root, options.trustDomain));
    checkSignature(certificate, root);
  }
  checkConstraints(root, [authority]);
  return authority;
}

/**
 * Validates one CA certificate of a path as `validatePath` does: `issuer` signed it (itself where it is self-signed),
 * `below` are the CA certificates under it, the lowest first. Throws `denied-certificate`.
 */
export function validateCa(
  certificate: ParsedCertificate,
  parts: { issuer: ParsedCertificate; below: readonly ParsedCertificate[]; nowMs: number },
): void {
  const { issuer, below } = parts;
  checkValidity(certificate, parts);
  if (certificate.criticalUnknown.length > 0)
    refuse(`it has critical extensions that are not understood: ${certificate.criticalUnknown.join(', ')}`);
  checkAuthority(certificate, below);
  checkConstraints(certificate, below);
  if (issuer !== certificate) checkLink(certificate, issuer);
  checkSignature(certificate, issuer);
}

/** The chain with its root at the end, which is found in the bundle byte for byte or by the last one's issuer. */
function withRoot(chain: ParsedCertificate[], roots: readonly Buffer[]): ParsedCertificate[] {
  for (const [index, certificate] of chain.entries()) {
    const issuer = chain[index + 1];
    if (issuer) checkLink(certificate, issuer);
  }
  const last = chain.at(-1);
  if (!last) return refuse('the chain is empty');
  if (roots.some((der) => der.equals(last.der))) return chain;
  const candidates = roots.map(parsed).filter((root) => links(last, root));
  const root =
    candidates.length > 1 ? candidates.find((candidate) => signedBy(last, candidate)) : candidates[0];
  return root ? [...chain, root] : refuse('the chain ends at no root of the bundle; fetch the bundle again');
}

/** Name and key id chain, byte for byte; both key ids must be there (RFC 5280 §4.2.1.1). */
function links(certificate: ParsedCertificate, issuer: ParsedCertificate): boolean {
  return (
    certificate.issuerName.equals(issuer.subjectName) &&
    issuer.subjectKeyId !== undefined &&
    certificate.authorityKeyId === issuer.subjectKeyId
  );
}

function checkLink(certificate: ParsedCertificate, issuer: ParsedCertificate): void {
  if (!certificate.issuerName.equals(issuer.subjectName))
    refuse('the chain is broken: an issuer name differs from the next subject');
  if (!links(certificate, issuer))
    refuse('the chain is broken: an authority key id is missing or differs from the next key');
}

function checkSignature(certificate: ParsedCertificate, issuer: ParsedCertificate): void {
  if (!signedBy(certificate, issuer)) refuse('a certificate is not signed by its issuer');
}

/** Whether a certificate or CRL is signed by this issuer's key. Throws `denied-certificate` where that is no key that we know. */
export function signedBy(
  signed: Pick<ParsedCertificate, 'der' | 'algorithm' | 'tbs' | 'signature'>,
  issuer: Pick<ParsedCertificate, 'spki'>,
): boolean {
  const isSmall = signed.der.length <= rememberedMaxBytes;
  const link = isSmall ? hash('sha256', Buffer.concat([issuer.spki, signed.der]), 'base64') : '';
  if (verifiedLinks.has(link)) return true;
  const { key } = denied(() => importPublicKey(issuer.spki));
  if (!verifySignature(signed.algorithm, key, signed.tbs, signed.signature)) return false;
  if (!isSmall) return true;
  if (verifiedLinks.size >= verifiedLinksMax) verifiedLinks.clear();
  verifiedLinks.add(link);
  return true;
}

/** Of what is larger the hash takes as long as the signature. */
const rememberedMaxBytes = 65_536;
/** SHA-256 of key and what it signed where the signature was verified before: that does not change, and is half of an agent's start. */
const verifiedLinks = new Set<string>();
const verifiedLinksMax = 1024;

/** The second that notAfter names still counts. */
function checkValidity(certificate: ParsedCertificate, options: Pick<PathOptions, 'nowMs' | 'skewMs'>): void {
  const skewMs = options.skewMs ?? 0;
  if (options.nowMs + skewMs < certificate.notBeforeMs)
    refuse('a certificate is not valid yet; compare the clocks');
  if (options.nowMs - skewMs > certificate.notAfterMs + 999) refuse('a certificate has expired');
}

/** CA rights; `below`: the CA certificates between it and the leaf. A missing basicConstraints is no CA (CVE-2026-33896). */
function checkAuthority(authority: ParsedCertificate, below: readonly ParsedCertificate[]): void {
  const { basicConstraints, keyUsage, extendedKeyUsage } = authority;
  if (!basicConstraints?.isCa || !basicConstraints.critical) refuse('an issuer is not a CA');
  if (!keyUsage?.keyCertSign || !keyUsage.critical) refuse('an issuer may not sign certificates');
  if (extendedKeyUsage && !hasBothUsages(extendedKeyUsage)) refuse('an issuer is for other usages');
  const length = below.filter((certificate) => !isSelfIssued(certificate)).length;
  if (length > (basicConstraints.pathLength ?? maxChain)) refuse('the path is longer than an issuer allows');
}

function isSelfIssued(certificate: ParsedCertificate): boolean {
  return certificate.issuerName.equals(certificate.subjectName);
}

/** Self-issued ones are exempt but for the leaf (RFC 5280 §6.1.3 (b)). */
function checkConstraints(authority: ParsedCertificate, below: readonly ParsedCertificate[]): void {
  const constraints = authority.nameConstraints;
  if (!constraints) return;
  for (const [index, certificate] of below.entries()) {
    if (index > 0 && isSelfIssued(certificate)) continue;
    const violation = constraintViolation(constraints, certificate);
    if (violation) refuse(violation);
  }
}

function trustDomainOfRoot(root: ParsedCertificate, expected: TrustDomain | undefined): TrustDomain {
  const [uri] = root.uris;
  if (uri === undefined)
    return expected ?? refuse('the root carries no SPIFFE ID and no trust domain was given');
  const prefix = 'spiffe://';
  const trustDomain = denied(() => parseTrustDomain(uri.startsWith(prefix) ? uri.slice(prefix.length) : ''));
  if (expected !== undefined && expected !== trustDomain)
    refuse(`the root is of the trust domain ${trustDomain}`);
  return trustDomain;
}

/** X509-SVID §3: a signing certificate's SPIFFE ID, where it has one, is the trust domain's. */
function checkAuthorityId(authority: ParsedCertificate, trustDomain: TrustDomain): void {
  if (
    authority.uris.length > 1 ||
    (authority.uris[0] ?? trustDomainId(trustDomain)) !== trustDomainId(trustDomain)
  )
    refuse(`an issuer's SPIFFE ID is not ${trustDomainId(trustDomain)}`);
}

/** X509-SVID §3 to §5, for the leaf. */
function checkSvid(leaf: ParsedCertificate, trustDomain: TrustDomain): void {
  const { keyUsage, uris } = leaf;
  const [uri] = uris;
  if (uri === undefined || uris.length !== 1) return refuse('an X509-SVID has exactly one URI');
  const id = denied(() => parseSpiffeId(uri));
  if (trustDomainOf(id) !== trustDomain) refuse(`${id} is outside the trust domain ${trustDomain}`);
  if (leaf.subjectName.length === 2 && !leaf.sanCritical)
    refuse('without a subject the names must be critical');
  if (leaf.basicConstraints?.isCa) refuse('a CA certificate cannot stand for a workload');
  if (!keyUsage?.critical || !keyUsage.digitalSignature) refuse('the leaf may not make signatures');
  if (keyUsage.keyCertSign || keyUsage.cRLSign) refuse('the leaf claims the key usages of a CA');
  if (leaf.extendedKeyUsage && !hasBothUsages(leaf.extendedKeyUsage))
    refuse('the leaf is not for both ends of TLS');
}

function hasBothUsages(usages: readonly string[]): boolean {
  return usages.includes(oids.serverAuth) && usages.includes(oids.clientAuth);
}

function parsed(der: Buffer): ParsedCertificate {
  return denied(() => parseCertificate(der));
}

/** A certificate that cannot be read is refused like one that does not hold. */
function denied<T>(read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof VouchError)) throw cause;
    throw new VouchError('denied-certificate', `the certificate does not hold: ${cause.detail}`, { cause });
  }
}

function refuse(why: string): never {
  throw new VouchError('denied-certificate', `the certificate does not hold: ${why}`);
}
