import { describe, expect, it } from 'vitest';
import { lintResponder } from '../../src/lint/responder.ts';
import { buildCertificateTbs, type CertificateTemplate } from '../../src/x509/certificate-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { ecKey, leafTemplate, makeIssuer, makeRoot, trustDomain } from '../x509/authority.ts';

const issuer = makeIssuer(makeRoot());
const name = `spiffe://${trustDomain}/vouch/ocsp`;
const template: CertificateTemplate = {
  ...leafTemplate(issuer, ecKey()),
  ...{ uris: [name], dnsNames: [], ipAddresses: [], ocspSigning: true },
};

function broken(change: Partial<CertificateTemplate>): string[] {
  const context = {
    ...{ spiffeId: name, trustDomain, isServer: false },
    issuer: {
      nameDer: issuer.name,
      notAfterMs: parseCertificate(issuer.der).notAfterMs,
      keyId: issuer.key.info.keyId,
    },
  };
  const findings = lintResponder(buildCertificateTbs({ ...template, ...change }), context);
  return findings.map(({ rule, detail }) => `${rule}: ${detail}`);
}

describe("the certificate of an OCSP responder's key", () => {
  it('breaks no rule', () => {
    expect(broken({})).toEqual([]);
  });

  it.each<[string, Partial<CertificateTemplate>, RegExp]>([
    ['a CA', { ca: {} }, /basic-constraints/],
    ['for TLS', { ocspSigning: false }, /not exactly OCSPSigning[^]*nocheck is missing/],
    ["under a workload's name", { uris: [`spiffe://${trustDomain}/orders`] }, /name is not the responder's/],
    ['with a host besides', { dnsNames: ['orders.example.org'] }, /name is not the responder's/],
    ["past its issuer's end", { notAfterSeconds: template.notAfterSeconds + 10 ** 9 }, /validity/],
    ['of another issuer', { issuerName: rdnName({ commonName: 'other' }) }, /issuer-chain/],
  ])('is found out %s', (_how, change, found) => {
    expect(broken(change).join('\n')).toMatch(found);
  });
});
