import { oids } from '../../x509/oids.ts';
import { type CertificateRule, details } from './context.ts';

/** All that a leaf may carry. */
export const certificateExtensions: ReadonlySet<string> = new Set([
  oids.basicConstraints,
  oids.keyUsage,
  oids.extendedKeyUsage,
  oids.subjectKeyIdentifier,
  oids.authorityKeyIdentifier,
  oids.subjectAltName,
  oids.crlDistributionPoints,
  oids.authorityInfoAccess,
]);

/** A leaf has the extensions that profiles write and no other, whoever asked for it (AD CS ESC1, ESC15). */
export const extensionSet: CertificateRule = {
  name: 'extension-set',
  citation: 'invariant I4; RFC 5280 §4.2',
  check: ({ extensionOids, criticalUnknown }) => {
    const foreign = extensionOids.filter((oid) => !certificateExtensions.has(oid));
    return details(
      [foreign.length > 0, `extensions that no profile writes: ${foreign.join(', ')}`],
      [criticalUnknown.length > 0, 'a critical extension that is not understood'],
    );
  },
};
