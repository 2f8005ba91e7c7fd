import { emptyName, isCommonName } from '../../x509/name.ts';
import type { CertificateRule } from './context.ts';

/** The subject is empty, or the first DNS name as common name and nothing else (profile `cn-first-dns`). */
export const subject: CertificateRule = {
  name: 'subject',
  citation: 'X509-SVID §3.1; RFC 5280 §4.1.2.6; CA/Browser BR §7.1.4.3',
  check: ({ subjectName, dnsNames }) =>
    subjectName.equals(emptyName) || isCommonName(subjectName, dnsNames[0])
      ? []
      : ['the subject is not the first DNS name alone'],
};
