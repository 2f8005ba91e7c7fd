import { keyIdOf } from '../../x509/public-key.ts';
import { type CertificateRule, details } from './context.ts';

/** The subject key id is that of the key, which is not the issuer's own. The key's strength was checked where it came in. */
export const subjectPublicKey: CertificateRule = {
  name: 'subject-public-key',
  citation: 'RFC 5280 §4.2.1.2; RFC 7093 §2',
  check({ spki, subjectKeyId }, { issuer }) {
    const keyId = keyIdOf(spki);
    return details(
      [keyId !== subjectKeyId, 'the subject key id is not that of the key (RFC 7093 method 1)'],
      [keyId === issuer.keyId, "the leaf has the issuer's own key"],
    );
  },
};
