import { readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { parseSerial } from '../../src/core/serial.ts';
import { buildCsr, parseCsr, verifyCsr } from '../../src/x509/csr.ts';
import { rdnName } from '../../src/x509/name.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { ecKey, ed25519Key, rsaKey, workloadId } from '../x509/authority.ts';
import { ArtefactDirectory, CurrentAuthority, runTool, type ToolAnswer } from '../x509/oracle-tools.ts';

const files = new ArtefactDirectory();
afterAll(() => files[Symbol.dispose]());

const pem = (name: string, der: Buffer): string => files.write(`${name}.pem`, encodePem('CERTIFICATE', der));

function verify(authority: CurrentAuthority, leaf: Buffer, ...args: readonly string[]): ToolAnswer {
  const trusted = [
    '-CAfile',
    pem('root', authority.root.der),
    '-untrusted',
    pem('issuer', authority.issuer.der),
  ];
  return runTool('openssl', 'verify', '-x509_strict', ...args, ...trusted, pem('leaf', leaf));
}

describe('OpenSSL', () => {
  it.each([
    ['P-384 root, P-256 issuer', ecKey('P-384'), ecKey('P-256')],
    ['RSA root, P-384 issuer', rsaKey(3072), ecKey('P-384')],
    ['Ed25519 root, RSA issuer', ed25519Key(), rsaKey(2048)],
  ])('accepts the whole path under -x509_strict, for both ends of TLS: %s', (_name, rootKey, issuerKey) => {
    const authority = new CurrentAuthority(rootKey, issuerKey);
    for (const purpose of ['sslserver', 'sslclient']) {
      expect(verify(authority, authority.leaf(), '-purpose', purpose)).toMatchObject({
        status: 0,
        output: expect.stringMatching(/: OK/) as unknown,
      });
    }
  });

  const authority = new CurrentAuthority();

  it('accepts a subject, and a leaf of each key type', () => {
    expect(
      verify(authority, authority.leaf({ subjectName: rdnName({ commonName: 'orders.example.org' }) }))
        .status,
    ).toBe(0);
    for (const key of [rsaKey(), ed25519Key(), ecKey('P-384')])
      expect(
        verify(authority, authority.leaf({ spki: key.info.spki, subjectKeyId: key.info.keyId })).status,
      ).toBe(0);
  });

  it('reads every extension as it was meant', () => {
    const file = pem('leaf', authority.leaf({ serial: parseSerial(`01${'ab'.repeat(16)}`) }));
    const { output } = runTool('openssl', 'x509', '-in', file, '-noout', '-text');
    for (const expected of [
      /Version: 3 \(0x2\)/,
      new RegExp(`Serial Number:\\s+01(:ab){16}`),
      /Subject: \n/,
      /X509v3 Basic Constraints: critical\s+CA:FALSE/,
      /X509v3 Key Usage: critical\s+Digital Signature\n/,
      /X509v3 Extended Key Usage: \s+TLS Web Server Authentication, TLS Web Client Authentication\n/,
      /X509v3 Subject Alternative Name: critical\s+URI:spiffe:\/\/example\.org\/payments\/orders, DNS:orders\.example\.org, IP Address:192\.0\.2\.7, IP Address:2001:DB8:0:0:0:0:0:7\n/,
      /X509v3 CRL Distribution Points: \s+Full Name:\s+URI:http:\/\/ca\.example\.org\/crl\/[0-9a-f]{40}\/3\.crl/,
      /Authority Information Access: \s+CA Issuers - URI:http:\/\/ca\.example\.org\/ca\/[0-9a-f]{40}\.cer/,
    ])
      expect(output).toMatch(expected);
  });

  it('reads name constraints, obeys them, and refuses what they exclude', () => {
    const nameConstraints = { permittedUriDomains: ['example.org'], permittedDnsDomains: ['example.org'] };
    const bound = new CurrentAuthority(undefined, undefined, { ca: { pathLength: 0, nameConstraints } });
    const { output } = runTool('openssl', 'x509', '-in', pem('bound', bound.issuer.der), '-noout', '-text');
    expect(output).toMatch(
      /X509v3 Name Constraints: critical\s+Permitted:\s+URI:example\.org\s+DNS:example\.org/,
    );
    expect(verify(bound, bound.leaf()).status).toBe(0);
    expect(verify(bound, bound.leaf({ dnsNames: ['example.com'] })).output).toMatch(
      /permitted subtree violation/,
    );
    expect(verify(bound, bound.leaf({ uris: ['spiffe://other.org/a'] })).output).toMatch(
      /permitted subtree violation/,
    );
  });

  it('agrees on dates from 2050', () => {
    const notAfterSeconds = Date.UTC(2050, 0, 1) / 1000;
    const { output } = runTool(
      'openssl',
      'x509',
      '-in',
      pem('late', authority.leaf({ notAfterSeconds })),
      '-noout',
      '-enddate',
    );
    expect(output).toBe('notAfter=Jan  1 00:00:00 2050 GMT\n');
    const asn1 = runTool(
      'openssl',
      'asn1parse',
      '-in',
      pem('late', authority.leaf({ notAfterSeconds })),
    ).output;
    expect(asn1).toMatch(/GENERALIZEDTIME\s+:20500101000000Z/);
    expect(asn1).toMatch(/UTCTIME/);
  });

  it('refuses what validatePath refuses: a leaf as CA, a path too long, another root', () => {
    const stranger = new CurrentAuthority();
    expect(verify(stranger, authority.leaf()).status).not.toBe(0);
    const leafKey = ecKey();
    const name = rdnName({ commonName: 'workload' });
    const workload = authority.leaf({
      subjectName: name,
      spki: leafKey.info.spki,
      subjectKeyId: leafKey.info.keyId,
    });
    const forged = new CurrentAuthority();
    Object.assign(forged, { root: authority.root, issuer: { key: leafKey, name, der: workload } });
    const trusted = [
      '-CAfile',
      pem('root', authority.root.der),
      '-untrusted',
      pem('issuer', authority.issuer.der),
      '-untrusted',
      pem('workload', workload),
    ];
    expect(runTool('openssl', 'verify', ...trusted, pem('forged', forged.leaf())).output).toMatch(
      /invalid CA certificate|unable to get local issuer/,
    );
  });

  it('verifies our CSRs', () => {
    for (const key of [ecKey('P-256'), ecKey('P-384'), rsaKey(), ed25519Key()]) {
      const csr = buildCsr(key.privateKey, {
        uris: [workloadId],
        dnsNames: ['a.example.org'],
        ipAddresses: ['::1'],
        commonName: 'a',
      });
      const file = files.write('csr.der', csr);
      const { status, output } = runTool(
        'openssl',
        'req',
        '-inform',
        'DER',
        '-in',
        file,
        '-noout',
        '-verify',
        '-text',
      );
      expect(status).toBe(0);
      expect(output).toMatch(/verify OK/);
      expect(output).toMatch(
        /URI:spiffe:\/\/example\.org\/payments\/orders, DNS:a\.example\.org, IP Address:0:0:0:0:0:0:0:1/,
      );
      expect(output).toMatch(/Subject: CN = a/);
    }
  });

  it.each([
    ['P-256', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256'], 'ec-p256'],
    ['P-384 with its default digest', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384'], 'ec-p384'],
    ['P-384 with SHA-384', ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-384', '-sha384'], 'ec-p384'],
    ['RSA', ['-newkey', 'rsa:2048'], 'rsa-2048'],
    [
      'RSA with PSS',
      [
        '-newkey',
        'rsa:2048',
        '-sigopt',
        'rsa_padding_mode:pss',
        '-sigopt',
        'rsa_pss_saltlen:32',
        '-sigopt',
        'rsa_mgf1_md:sha256',
      ],
      'rsa-2048',
    ],
    ['Ed25519', ['-newkey', 'ed25519'], 'ed25519'],
  ])('makes CSRs that we take: %s', (_name, key, type) => {
    const out = files.write('made.der', '');
    const names = [
      '-subj',
      '/O=Example/CN=orders',
      '-addext',
      `subjectAltName=URI:${workloadId},DNS:a.test,IP:192.0.2.1`,
    ];
    const noise = ['-addext', 'keyUsage=critical,digitalSignature', '-addext', 'basicConstraints=CA:FALSE'];
    const made = runTool(
      'openssl',
      'req',
      '-new',
      '-nodes',
      ...key,
      '-keyout',
      files.write('made.key', ''),
      ...names,
      ...noise,
      '-outform',
      'DER',
      '-out',
      out,
    );
    expect(made.status).toBe(0);
    const csr = parseCsr(readFileSync(out));
    expect(csr).toMatchObject({
      commonNames: ['orders'],
      uris: [workloadId],
      dnsNames: ['a.test'],
      ipAddresses: ['192.0.2.1'],
      requestsCa: false,
    });
    expect(verifyCsr(csr).type).toBe(type);
  });

  it('makes CSRs that we refuse: explicit curve parameters, small RSA, CA:TRUE', () => {
    const make = (...args: readonly string[]): Buffer => {
      const out = files.write('bad.der', '');
      expect(
        runTool(
          'openssl',
          'req',
          '-new',
          '-nodes',
          '-keyout',
          files.write('bad.key', ''),
          '-subj',
          '/CN=a',
          ...args,
          '-outform',
          'DER',
          '-out',
          out,
        ).status,
      ).toBe(0);
      return readFileSync(out);
    };
    expect(() =>
      verifyCsr(
        parseCsr(
          make('-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-pkeyopt', 'ec_param_enc:explicit'),
        ),
      ),
    ).toThrow(/public key is of another type/);
    expect(() => verifyCsr(parseCsr(make('-newkey', 'rsa:1024')))).toThrow(/RSA of another size/);
    expect(() => verifyCsr(parseCsr(make('-newkey', 'rsa:2048', '-pkeyopt', 'rsa_keygen_pubexp:3')))).toThrow(
      /another exponent/,
    );
    expect(() =>
      verifyCsr(parseCsr(make('-newkey', 'ed25519', '-addext', 'basicConstraints=CA:TRUE'))),
    ).toThrow(/asks for a CA/);
  });
});
