import { emptyName } from '../../x509/name.ts';
import { type CertificateRule, details } from './context.ts';

/** subjectAltName is critical exactly where the subject is empty, and has no type but URI, DNS and IP, none twice. */
export const subjectAltName: CertificateRule = {
  name: 'subject-alt-name',
  citation: 'RFC 5280 §4.2.1.6',
  check({ subjectName, sanCritical, otherNames, uris, dnsNames, ipAddresses }) {
    const names = [...uris, ...dnsNames, ...ipAddresses];
    const isEmpty = subjectName.equals(emptyName);
    return details(
      [isEmpty && !sanCritical, 'the subject is empty and subjectAltName not critical'],
      [!isEmpty && sanCritical, 'subjectAltName is critical beside a subject'],
      [otherNames > 0, 'subjectAltName has names other than URI, DNS and IP'],
      [new Set(names).size !== names.length, 'a name stands twice'],
    );
  },
};
