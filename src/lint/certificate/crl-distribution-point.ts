import { type CertificateRule, details } from './context.ts';

/** Where to ask about revocation: at least one plain-http CRL URL, so that no TLS check waits on a TLS check. */
export const crlDistributionPoint: CertificateRule = {
  name: 'crl-distribution-point',
  citation: 'RFC 5280 §4.2.1.13, §8',
  check: ({ crlUrls, issuerUrls, ocspUrls }) =>
    details(
      [crlUrls.length === 0, 'there is no CRL distribution point'],
      [
        [...crlUrls, ...issuerUrls, ...ocspUrls].some((url) => !isHttpUrl(url)),
        'a URL for CRLs, issuers or OCSP is not plain http',
      ],
    ),
};

function isHttpUrl(url: string): boolean {
  return /^http:\/\/[^\s/?#@]+\/[^\s]*$/.test(url);
}
