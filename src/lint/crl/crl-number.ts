import type { CrlRule } from './rule.ts';

/** Every CRL has a number above zero; a delta's is above its base's. The reader holds it to 20 octets. */
export const crlNumber: CrlRule = {
  name: 'crl-number',
  citation: 'RFC 5280 §5.2.3, §5.2.4; invariant I5',
  check({ crlNumber: found, deltaBase }) {
    if (found === undefined || found === 0n) return ['cRLNumber is missing or zero'];
    return deltaBase !== undefined && deltaBase >= found ? ["a delta's number is not above its base's"] : [];
  },
};
