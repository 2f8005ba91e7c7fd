import { VouchError } from '../core/errors.ts';
import { issuerRevoked } from '../issuance/issue.ts';
import type { Issuers } from '../issuance/issuers.ts';
import type { StoreReader } from '../store/port.ts';
import type { CertificateStanding } from '../store/records.ts';
import { parseCertificate } from '../x509/certificate.ts';

/**
 * I7: a client certificate counts only if its (issuer, serial) is in the store with an equal TBS, unrevoked, unexpired
 * and unsuspended, and the root has not revoked its issuer, asked at each request. `verified`: what TLS said of its chain to our root,
 * `expired`: that its dates are why not. Throws
 * `denied-certificate`, `denied-revoked` or `denied-suspended`.
 */
export function standingOf(
  store: Pick<StoreReader, 'certificate'>,
  peer: { der: Buffer | undefined; verified: boolean; expired?: boolean },
  nowMs: number,
  issuers: Pick<Issuers, 'isRevoked'>,
): CertificateStanding {
  if (peer.expired === true && !peer.verified)
    throw new VouchError('denied-certificate', 'this client certificate has expired; enroll again');
  if (!peer.der || !peer.verified)
    throw new VouchError('denied-certificate', 'this needs a client certificate that this authority issued');
  const certificate = parseCertificate(peer.der);
  const standing = store.certificate(certificate.authorityKeyId ?? '', certificate.serial);
  if (!standing?.tbs.equals(certificate.tbs))
    throw new VouchError('denied-certificate', 'this client certificate is not in the store; enroll again');
  if (__VOUCH_WITHOUT__ === 'I7') return standing;
  if (issuers.isRevoked(standing.issuerKeyId)) throw issuerRevoked();
  if (standing.revoked) throw new VouchError('denied-revoked', 'this certificate is revoked');
  if (nowMs > standing.notAfterMs + 999)
    throw new VouchError('denied-certificate', 'this certificate has expired; enroll again');
  if (standing.entrySuspended)
    throw new VouchError(
      'denied-suspended',
      'this identity is suspended; the operator can lift that with `vouch entry resume`',
    );
  return standing;
}

/**
 * Who may ask in the name of workloads: an identity that enrolled itself, not one that an agent got, nor the server's own.
 * Throws `denied-certificate`.
 */
export function requireAgent({ entryId, agent }: CertificateStanding): void {
  if (entryId === undefined || agent !== undefined)
    throw new VouchError('denied-certificate', 'only who enrolled itself may ask in the name of workloads');
}
