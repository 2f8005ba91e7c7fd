import type { CrlRule } from './rule.ts';

/** `unspecified` is said by leaving the reason out, and removeFromCRL on delta CRLs only. */
export const reasons: CrlRule = {
  name: 'reasons',
  citation: 'RFC 5280 §5.3.1; BR §7.2',
  check({ explicitUnspecified, removals, deltaBase }) {
    const findings: string[] = [];
    if (explicitUnspecified > 0) findings.push('an entry spells out the reason unspecified');
    if (removals > 0 && deltaBase === undefined)
      findings.push('removeFromCRL stands on a CRL that is no delta');
    return findings;
  },
};
