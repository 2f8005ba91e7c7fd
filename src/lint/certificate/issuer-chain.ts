import { type CertificateRule, details } from './context.ts';

/** The issuer name is the issuer's subject byte for byte, and differs from the leaf's own. */
export const issuerChain: CertificateRule = {
  name: 'issuer-chain',
  citation: 'RFC 5280 §4.1.2.4, §7.1',
  check: ({ issuerName, subjectName }, { issuer }) =>
    details(
      [!issuerName.equals(issuer.nameDer), "the issuer name is not the issuer's subject"],
      [subjectName.equals(issuerName), 'the leaf has the name of its issuer'],
    ),
};
