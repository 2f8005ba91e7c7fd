import { type CertificateRule, details } from './context.ts';

/** keyUsage is critical, with digitalSignature and nothing else: no CA's usages, no key transport. */
export const keyUsage: CertificateRule = {
  name: 'key-usage',
  citation: 'X509-SVID §4.3; RFC 5280 §4.2.1.3',
  check({ keyUsage: found }) {
    if (!found) return ['keyUsage is missing'];
    const { critical, digitalSignature, keyCertSign, cRLSign, ...rest } = found;
    return details(
      [!critical, 'keyUsage is not critical'],
      [!digitalSignature, 'digitalSignature is missing'],
      [keyCertSign, 'a leaf must not have keyCertSign'],
      [cRLSign, 'a leaf must not have cRLSign'],
      [Object.values(rest).includes(true), 'a leaf has digitalSignature only'],
    );
  },
};
