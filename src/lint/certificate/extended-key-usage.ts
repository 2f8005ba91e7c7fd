import { oids } from '../../x509/oids.ts';
import type { CertificateRule } from './context.ts';

/** Both ends of TLS, and neither anyExtendedKeyUsage nor any other. */
export const extendedKeyUsage: CertificateRule = {
  name: 'extended-key-usage',
  citation: 'X509-SVID §4.4; RFC 5280 §4.2.1.12',
  check: ({ extendedKeyUsage: found }) =>
    found?.length === 2 && found.includes(oids.serverAuth) && found.includes(oids.clientAuth)
      ? []
      : ['extendedKeyUsage is not exactly serverAuth and clientAuth'],
};
