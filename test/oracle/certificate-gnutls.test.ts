import { afterAll, describe, expect, it } from 'vitest';
import { buildCsr } from '../../src/x509/csr.ts';
import { rdnName } from '../../src/x509/name.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { ecKey, ed25519Key, rsaKey, workloadId } from '../x509/authority.ts';
import { ArtefactDirectory, CurrentAuthority, runTool, type ToolAnswer } from '../x509/oracle-tools.ts';

const files = new ArtefactDirectory();
afterAll(() => files[Symbol.dispose]());

function verify(authority: CurrentAuthority, leaf: Buffer, ...args: readonly string[]): ToolAnswer {
  const chain = files.write(
    'chain.pem',
    encodePem('CERTIFICATE', leaf) + encodePem('CERTIFICATE', authority.issuer.der),
  );
  const root = files.write('root.pem', encodePem('CERTIFICATE', authority.root.der));
  return runTool('certtool', '--verify', '--load-ca-certificate', root, '--infile', chain, ...args);
}

describe('GnuTLS', () => {
  it.each([
    ['P-384 root, P-256 issuer', ecKey('P-384'), ecKey('P-256')],
    ['RSA root, P-384 issuer', rsaKey(3072), ecKey('P-384')],
    ['Ed25519 root, RSA issuer', ed25519Key(), rsaKey(2048)],
  ])('accepts the whole path, for both ends of TLS: %s', (_name, rootKey, issuerKey) => {
    const authority = new CurrentAuthority(rootKey, issuerKey);
    for (const purpose of ['1.3.6.1.5.5.7.3.1', '1.3.6.1.5.5.7.3.2'])
      expect(verify(authority, authority.leaf(), '--verify-purpose', purpose)).toMatchObject({
        status: 0,
        output: expect.stringMatching(
          /Chain verification output: Verified\. The certificate is trusted\./,
        ) as unknown,
      });
  });

  const authority = new CurrentAuthority();

  it('finds the DNS name, and no other', () => {
    expect(verify(authority, authority.leaf(), '--verify-hostname', 'orders.example.org').status).toBe(0);
    expect(verify(authority, authority.leaf(), '--verify-hostname', 'other.example.org').status).not.toBe(0);
    expect(verify(authority, authority.leaf({ subjectName: rdnName({ commonName: 'orders' }) })).status).toBe(
      0,
    );
  });

  it('reads every extension as it was meant', () => {
    const file = files.write('leaf.der', authority.leaf());
    const { output } = runTool('certtool', '--certificate-info', '--inder', '--infile', file);
    for (const expected of [
      /Version: 3/,
      /Basic Constraints \(critical\):\s+Certificate Authority \(CA\): FALSE/,
      /Key Usage \(critical\):\s+Digital signature\.\n/,
      /Key Purpose \(not critical\):\s+TLS WWW Server\.\s+TLS WWW Client\./,
      /Subject Alternative Name \(critical\):\s+URI: spiffe:\/\/example\.org\/payments\/orders\s+DNSname: orders\.example\.org\s+IPAddress: 192\.0\.2\.7\s+IPAddress: 2001:db8::7/,
      /CRL Distribution points \(not critical\):\s+URI: http:\/\/ca\.example\.org\/crl\/[0-9a-f]{40}\/3\.crl/,
      new RegExp(`Authority Key Identifier \\(not critical\\):\\s+${authority.issuer.key.info.keyId}`),
      /Access Location URI: http:\/\/ca\.example\.org\/ca\/[0-9a-f]{40}\.cer/,
    ])
      expect(output).toMatch(expected);
  });

  it("reads an issuer's path length and name constraints, and obeys them", () => {
    const nameConstraints = { permittedUriDomains: ['example.org'], permittedDnsDomains: ['example.org'] };
    const bound = new CurrentAuthority(undefined, undefined, { ca: { pathLength: 0, nameConstraints } });
    const { output } = runTool(
      'certtool',
      '--certificate-info',
      '--inder',
      '--infile',
      files.write('ca.der', bound.issuer.der),
    );
    expect(output).toMatch(/Certificate Authority \(CA\): TRUE\s+Path Length Constraint: 0/);
    expect(output).toMatch(
      /Name Constraints \(critical\):\s+Permitted:\s+URI: example\.org\s+DNSname: example\.org/,
    );
    expect(output).toMatch(/Certificate signing\.\s+CRL signing\./);
    expect(verify(bound, bound.leaf({ dnsNames: ['example.com'] })).status).not.toBe(0);
  });

  it('refuses another root', () => {
    expect(verify(new CurrentAuthority(), authority.leaf()).output).toMatch(/not trusted|issuer is unknown/);
  });

  it('verifies our CSRs', () => {
    for (const key of [ecKey('P-256'), rsaKey(), ed25519Key()]) {
      const file = files.write(
        'csr.pem',
        encodePem('CERTIFICATE REQUEST', buildCsr(key.privateKey, { uris: [workloadId] })),
      );
      const { status, output } = runTool('certtool', '--crq-info', '--infile', file);
      expect(status).toBe(0);
      expect(output).toMatch(/Self signature: verified/);
      expect(output).toMatch(/URI: spiffe:\/\/example\.org\/payments\/orders/);
    }
  });
});
