import { type CertificateRule, details } from './context.ts';

/** Both key identifiers stand there, and the authority's is the issuer's key. */
export const keyIdentifiers: CertificateRule = {
  name: 'key-identifiers',
  citation: 'RFC 5280 §4.2.1.1, §4.2.1.2',
  check: ({ authorityKeyId, subjectKeyId }, { issuer }) =>
    details(
      [authorityKeyId !== issuer.keyId, "authorityKeyIdentifier is not the issuer's key id"],
      [subjectKeyId === undefined, 'subjectKeyIdentifier is missing'],
    ),
};
