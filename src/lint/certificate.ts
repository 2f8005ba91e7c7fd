import { VouchError } from '../core/errors.ts';
import { type ParsedTbs, parseTbsCertificate } from '../x509/certificate.ts';
import { basicConstraints } from './certificate/basic-constraints.ts';
import type { CertificateLintContext } from './certificate/context.ts';
import { crlDistributionPoint } from './certificate/crl-distribution-point.ts';
import { dnsNames } from './certificate/dns-names.ts';
import { extendedKeyUsage } from './certificate/extended-key-usage.ts';
import { extensionSet } from './certificate/extension-set.ts';
import { issuerChain } from './certificate/issuer-chain.ts';
import { keyIdentifiers } from './certificate/key-identifiers.ts';
import { keyUsage } from './certificate/key-usage.ts';
import { reservedNames } from './certificate/reserved-names.ts';
import { serial } from './certificate/serial.ts';
import { spiffeId } from './certificate/spiffe-id.ts';
import { subject } from './certificate/subject.ts';
import { subjectAltName } from './certificate/subject-alt-name.ts';
import { subjectPublicKey } from './certificate/subject-public-key.ts';
import { validity } from './certificate/validity.ts';
import { type Finding, runRules } from './finding.ts';

export type { CertificateLintContext } from './certificate/context.ts';

/** Every rule that a leaf must keep before it is signed. */
export const certificateRules = [
  serial,
  validity,
  issuerChain,
  subjectPublicKey,
  basicConstraints,
  keyUsage,
  extendedKeyUsage,
  keyIdentifiers,
  subject,
  subjectAltName,
  spiffeId,
  reservedNames,
  dnsNames,
  crlDistributionPoint,
  extensionSet,
];

/** What is wrong with a to-be-signed leaf certificate (DER TBSCertificate); empty: it may be signed. Never throws on its bytes. */
export function lintCertificate(tbs: Buffer, context: CertificateLintContext): Finding[] {
  let parsed: ParsedTbs;
  try {
    parsed = parseTbsCertificate(tbs);
  } catch (error) {
    if (!(error instanceof VouchError)) throw error;
    return [{ rule: 'strict-der', detail: error.detail, citation: 'RFC 5280 §4.1, X.690 §10' }];
  }
  return runRules(certificateRules, parsed, context);
}
