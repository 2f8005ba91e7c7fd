import { VouchError } from '../core/errors.ts';
import type { Serial } from '../core/serial.ts';
import { parseSpiffeId, type SpiffeId, type TrustDomain } from '../core/spiffe-id.ts';
import { type ParsedCertificate, parseCertificate } from '../x509/certificate.ts';
import { validatePath } from '../x509/path.ts';
import { type AllowedPeers, isAllowed } from './allowed.ts';
import { isFresh, type VerifiedCrl } from './crl.ts';

/** Who is at the other end of a connection, as its certificate says and our checks confirmed. */
export interface Peer {
  spiffeId: SpiffeId;
  serial: Serial;
  /** Key id of the CA that signed it, 40 hex characters. */
  issuerKeyId: string;
  /** End of its certificate, Unix milliseconds. */
  notAfterMs: number;
}

/** What a peer is checked against; changes as a whole with each generation or CRL. */
export interface Trust {
  /** CA certificates without the roots, by key id: those of our own chain. */
  issuers: ReadonlyMap<string, ParsedCertificate>;
  roots: readonly ParsedCertificate[];
  /** Ours: what the roots speak for. */
  trustDomain: TrustDomain;
  /** By the key id of the CA that signed it. */
  crls: ReadonlyMap<string, VerifiedCrl>;
  /** `refuse` (default): past a CRL's nextUpdate nobody new is let in. `allow`: the last known CRL goes on counting. */
  staleCrl: 'refuse' | 'allow';
}

/**
 * Decides about a peer from the DER of its certificate alone: path to our roots, one SPIFFE ID that `allowed` lists,
 * and each certificate of the path against the CRL of its issuer. Node's own verification came before this; that it
 * did is not taken on trust. Throws `denied-certificate`, `denied-revoked` or `policy-not-fresh`.
 */
export function checkPeer(leafDer: Buffer, trust: Trust, allowed: AllowedPeers, nowMs: number): Peer {
  const path = validatePath({
    chain: pathDer(leafDer, trust),
    roots: trust.roots.map((root) => root.der),
    nowMs,
    skewMs: clockSkewMs,
    trustDomain: trust.trustDomain,
  });
  const [leaf] = path;
  if (leaf === undefined) throw new VouchError('denied-certificate', 'the peer sent no certificate');
  const spiffeId = parseSpiffeId(leaf.uris[0] ?? '');
  if (!isAllowed(spiffeId, allowed))
    throw new VouchError('denied-certificate', `${spiffeId} is not among the peers allowed here`);
  for (const certificate of path)
    if (!certificate.issuerName.equals(certificate.subjectName))
      assertUnrevoked(certificate, spiffeId, trust, nowMs);
  const { serial, authorityKeyId: issuerKeyId = '', notAfterMs } = leaf;
  return { spiffeId, serial, issuerKeyId, notAfterMs };
}

/**
 * True while the connection of `peer`, let in earlier, may go on: it is still allowed, its path still leads to a root,
 * nothing of that stands on a CRL, and its certificate has not ended. A revocation lists unexpired certificates only: it
 * would never reach a connection that outlives its own.
 */
export function mayStay(peer: Peer, trust: Trust, allowed: AllowedPeers, nowMs: number): boolean {
  return (
    nowMs <= peer.notAfterMs + clockSkewMs && isStillTrusted(peer, trust) && isAllowed(peer.spiffeId, allowed)
  );
}

function isStillTrusted({ issuerKeyId, serial }: Peer, { issuers, roots, crls }: Trust): boolean {
  let [keyId, below] = [issuerKeyId, serial];
  for (let depth = 0; depth <= issuers.size; depth += 1) {
    if (crls.get(keyId)?.has(below) === true) return false;
    if (roots.some(({ subjectKeyId }) => subjectKeyId === keyId)) return true;
    const issuer = issuers.get(keyId);
    if (issuer === undefined) return false;
    [keyId, below] = [issuer.authorityKeyId ?? '', issuer.serial];
  }
  return false;
}

/** How far a peer's clock may be from ours: certificates are dated 60 s back, clocks differ by minutes. */
const clockSkewMs = 300_000;

function assertUnrevoked(
  certificate: ParsedCertificate,
  spiffeId: SpiffeId,
  trust: Trust,
  nowMs: number,
): void {
  const crl = trust.crls.get(certificate.authorityKeyId ?? '');
  if (crl === undefined) {
    if (trust.staleCrl === 'allow') return;
    throw new VouchError(
      'policy-not-fresh',
      `no CRL of the CA that signed ${spiffeId} was delivered; nobody can be let in by it`,
    );
  }
  if (crl.has(certificate.serial))
    throw new VouchError('denied-revoked', `the certificate ${certificate.serial} of ${spiffeId} is revoked`);
  if (trust.staleCrl === 'refuse' && !isFresh(crl, nowMs, clockSkewMs))
    throw new VouchError(
      'policy-not-fresh',
      `the CRL of issuer ${crl.issuerKeyId} is stale: is its agent still running?`,
    );
}

/** The peer's leaf and, of the CAs we know, the ones above it: Node's server side does not hand out a peer's chain. */
function pathDer(leafDer: Buffer, trust: Trust): Buffer[] {
  const path = [leafDer];
  let certificate = parseCertificate(leafDer);
  for (let depth = 0; depth < trust.issuers.size; depth += 1) {
    const above = trust.issuers.get(certificate.authorityKeyId ?? '');
    if (above === undefined) break;
    path.push(above.der);
    certificate = above;
  }
  return path;
}
