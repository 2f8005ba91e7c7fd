import * as leaf from '../../src/log/leaf.ts';
import { hashLeaf } from '../../src/log/merkle.ts';
import type { ParsedCertificate } from '../../src/x509/certificate.ts';

/** The leaf of a certificate, from nothing but the certificate and its proof (docs/log-format.md). */
export function encodeLeaf(certificate: ParsedCertificate, timeMs: number, context: Buffer): Buffer {
  return leaf.encodeLeaf({
    type: 'certificate',
    timeMs,
    issuerKeyId: certificate.authorityKeyId ?? '',
    body: certificate.tbs,
    context,
  });
}

export const hashLeafOf = hashLeaf;
