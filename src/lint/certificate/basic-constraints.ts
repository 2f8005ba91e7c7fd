import { type CertificateRule, details } from './context.ts';

/** A leaf says critically that it is no CA. */
export const basicConstraints: CertificateRule = {
  name: 'basic-constraints',
  citation: 'X509-SVID §4.1; RFC 5280 §4.2.1.9',
  check: ({ basicConstraints: found }) =>
    details(
      [!found, 'basicConstraints is missing'],
      [found?.isCa === true, 'a leaf must not be a CA'],
      [found?.pathLength !== undefined, 'a leaf has no path length'],
      [found?.critical === false, 'basicConstraints is not critical'],
    ),
};
