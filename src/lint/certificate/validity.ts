import { type CertificateRule, details } from './context.ts';

/** notAfter is inclusive, not before notBefore, and not past the issuer's. */
export const validity: CertificateRule = {
  name: 'validity',
  citation: 'RFC 5280 §4.1.2.5',
  check: ({ notBeforeMs, notAfterMs }, { issuer }) =>
    details(
      [notAfterMs < notBeforeMs, 'notAfter is before notBefore'],
      [notAfterMs > issuer.notAfterMs, "notAfter is past the issuer's"],
    ),
};
