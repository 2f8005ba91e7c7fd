import { VouchError } from '../core/errors.ts';
import { ocspSpiffeId, type TrustDomain } from '../core/spiffe-id.ts';
import { type ParsedTbs, parseTbsCertificate } from '../x509/certificate.ts';
import { oids } from '../x509/oids.ts';
import { basicConstraints } from './certificate/basic-constraints.ts';
import { type CertificateLintContext, type CertificateRule, details } from './certificate/context.ts';
import { crlDistributionPoint } from './certificate/crl-distribution-point.ts';
import { certificateExtensions } from './certificate/extension-set.ts';
import { issuerChain } from './certificate/issuer-chain.ts';
import { keyIdentifiers } from './certificate/key-identifiers.ts';
import { keyUsage } from './certificate/key-usage.ts';
import { serial } from './certificate/serial.ts';
import { spiffeId } from './certificate/spiffe-id.ts';
import { subjectAltName } from './certificate/subject-alt-name.ts';
import { subjectPublicKey } from './certificate/subject-public-key.ts';
import { validity } from './certificate/validity.ts';
import { type Finding, runRules } from './finding.ts';

/** It answers for its issuer and does nothing else; nobody asks whether it is revoked itself, so it is short-lived. */
const responder: CertificateRule = {
  name: 'ocsp-responder',
  citation: 'RFC 6960 §4.2.2.2; invariants I4, I9',
  check(
    { uris, dnsNames, ipAddresses, extendedKeyUsage, ocspNoCheck, extensionOids, criticalUnknown },
    context,
  ) {
    const known = [...certificateExtensions, oids.ocspNoCheck as string];
    const name = ocspSpiffeId(context.trustDomain as TrustDomain);
    return details(
      [extendedKeyUsage?.join() !== oids.ocspSigning, 'extendedKeyUsage is not exactly OCSPSigning'],
      [!ocspNoCheck, 'id-pkix-ocsp-nocheck is missing'],
      [[...uris, ...dnsNames, ...ipAddresses].join() !== name, "its name is not the responder's"],
      [!extensionOids.every((oid) => known.includes(oid)), 'an extension that no profile writes'],
      [criticalUnknown.length > 0, 'a critical extension that is not understood'],
    );
  },
};

const rules = [
  ...[serial, validity, issuerChain, subjectPublicKey, basicConstraints, keyUsage, keyIdentifiers],
  ...[subjectAltName, spiffeId, crlDistributionPoint, responder],
];

/** What is wrong with the to-be-signed certificate of an OCSP responder (DER TBSCertificate); empty: it may be signed. */
export function lintResponder(tbs: Buffer, context: CertificateLintContext): Finding[] {
  let parsed: ParsedTbs;
  try {
    parsed = parseTbsCertificate(tbs);
  } catch (error) {
    if (!(error instanceof VouchError)) throw error;
    return [{ rule: 'strict-der', detail: error.detail, citation: 'RFC 5280 §4.1, X.690 §10' }];
  }
  return runRules(rules, parsed, context);
}
