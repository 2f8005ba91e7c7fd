import type { CrlRule } from './rule.ts';

/** A shard's IDP is critical, with one plain-http URL and onlyContainsUserCerts, and narrows the CRL in no other way. */
export const issuingDistributionPoint: CrlRule = {
  name: 'issuing-distribution-point',
  citation: 'RFC 5280 §5.2.5',
  check({ idp }) {
    if (!idp) return [];
    const [url] = idp.urls;
    const findings: string[] = [];
    if (!idp.critical) findings.push('issuingDistributionPoint is not critical');
    if (url === undefined || idp.urls.length !== 1 || !/^http:\/\/[^\s/?#@]+\/[^\s]*$/.test(url))
      findings.push('issuingDistributionPoint has not one plain http URL');
    if (!idp.onlyContainsUserCerts || idp.other)
      findings.push('issuingDistributionPoint is not for user certificates only');
    return findings;
  },
};
