import { ipBytes } from '../../x509/ip-address.ts';
import type { CertificateRule } from './context.ts';

const label = /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?$/;
const maxLength = 253;

/**
 * A DNS name is lower-case A-labels of letters, digits and hyphens: no wildcard, underscore or trailing dot, no address
 * in disguise (a last label of digits, as WHATWG's URL would read it), no label with `--` in third place but `xn--`.
 */
export const dnsNames: CertificateRule = {
  name: 'dns-names',
  citation: 'RFC 5280 §4.2.1.6; RFC 1034 §3.5; RFC 5890 §2.3.1',
  check: ({ dnsNames: names }) =>
    names
      .filter((name) => !isDnsName(name))
      .map((name) => `not a DNS name: ${JSON.stringify(name.slice(0, 80))}`),
};

function isDnsName(name: string): boolean {
  const labels = name.split('.');
  const last = labels.at(-1) ?? '';
  if (name.length > maxLength || ipBytes(name) || /^(?:\d+|0x[0-9a-f]*)$/.test(last)) return false;
  return labels.every(
    (part) => label.test(part) && (part.slice(2, 4) !== '--' || /^xn--[a-z0-9]/.test(part)),
  );
}
