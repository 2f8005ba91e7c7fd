import type { CrlRule } from './rule.ts';

/** No entry is dated after the CRL that carries it. */
export const revocationDates: CrlRule = {
  name: 'revocation-dates',
  citation: 'invariant I5; RFC 5280 §5.1.2.6',
  check: ({ newestDateSeconds, thisUpdateSeconds }) =>
    newestDateSeconds !== undefined && newestDateSeconds > thisUpdateSeconds
      ? ['an entry is dated after thisUpdate']
      : [],
};
