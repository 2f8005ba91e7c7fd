import { VouchError } from '../core/errors.ts';
import type { CertificateNames } from '../issuance/prepare.ts';
import type { ParsedCsr } from '../x509/csr.ts';

/**
 * I4: of a CSR only the public key is taken. One that asks for what its entry does not give is refused, so that nobody
 * believes to have got it; one that asks for nothing, or for less, gets exactly what the entry says.
 */
export function refuseForeignNames(csr: ParsedCsr, names: CertificateNames): void {
  if (__VOUCH_WITHOUT__ === 'I4') return;
  const refuse = (what: string): never => {
    throw new VouchError(
      'policy-names',
      `the CSR asks for ${what}, which its registration entry does not give; leave names out of the CSR`,
    );
  };
  if (csr.otherNames > 0) refuse('names of another kind');
  if (csr.uris.some((uri) => uri !== names.spiffeId)) refuse('another SPIFFE ID');
  if (csr.dnsNames.some((name) => !names.dnsNames.includes(name))) refuse('another DNS name');
  if (csr.ipAddresses.some((address) => !names.ipAddresses.includes(address))) refuse('another IP address');
}
