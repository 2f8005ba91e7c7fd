import { afterAll, describe, expect, it } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { ecKey, ed25519Key, freshSerial, rsaKey } from '../x509/authority.ts';
import { ArtefactDirectory, CurrentAuthority, runTool, type ToolAnswer } from '../x509/oracle-tools.ts';

const files = new ArtefactDirectory();
afterAll(() => files[Symbol.dispose]());

const authority = new CurrentAuthority();
const entry = (serial: Serial): Buffer =>
  encodeRevoked({ serial, dateSeconds: authority.nowSeconds - 70, reason: 'keyCompromise' });

function verify(leaf: Buffer, crl: Buffer): ToolAnswer {
  const chain = files.write(
    'chain.pem',
    encodePem('CERTIFICATE', leaf) + encodePem('CERTIFICATE', authority.issuer.der),
  );
  const root = files.write('root.pem', encodePem('CERTIFICATE', authority.root.der));
  return runTool(
    'certtool',
    '--verify',
    '--load-ca-certificate',
    root,
    '--load-crl',
    files.write('crl.pem', encodePem('X509 CRL', crl)),
    '--infile',
    chain,
  );
}

describe('GnuTLS', () => {
  const revokedSerial = freshSerial();
  const revoked = authority.leaf({ serial: revokedSerial });

  it.each([
    ['full CRL', undefined],
    ['shard', `http://ca.example.org/crl/${authority.issuer.key.info.keyId}/3.crl`],
  ])('accepts and refuses by the %s', (_name, idpUrl) => {
    const crl = authority.crl({ revoked: [entry(revokedSerial)], idpUrl });
    expect(verify(authority.leaf(), crl)).toMatchObject({
      status: 0,
      output: expect.stringMatching(/The certificate is trusted/) as unknown,
    });
    expect(verify(revoked, crl)).toMatchObject({
      status: 1,
      output: expect.stringMatching(/certificate chain is revoked/) as unknown,
    });
    expect(verify(revoked, authority.crl({ idpUrl })).status).toBe(0);
  });

  it.each([
    ['P-256', ecKey()],
    ['P-384', ecKey('P-384')],
    ['RSA', rsaKey()],
    ['Ed25519', ed25519Key()],
  ])('verifies the signature and reads every field: %s', (_name, key) => {
    const by = new CurrentAuthority(undefined, key);
    const crl = files.write(
      'by.pem',
      encodePem(
        'X509 CRL',
        by.crl({ algorithm: key.algorithm, revoked: [entry(revokedSerial)], crlNumber: 0x1234n }),
      ),
    );
    const issuer = files.write('issuer.pem', encodePem('CERTIFICATE', by.issuer.der));
    expect(
      runTool('certtool', '--verify-crl', '--load-ca-certificate', issuer, '--infile', crl),
    ).toMatchObject({
      status: 0,
      output: expect.stringMatching(/Verified\./) as unknown,
    });
    const { output } = runTool('certtool', '--crl-info', '--infile', crl);
    expect(output).toMatch(/Version: 2/);
    expect(output).toMatch(/CRL Number \(not critical\): 1234/);
    expect(output).toMatch(
      new RegExp(`Authority Key Identifier \\(not critical\\):\\s+${by.issuer.key.info.keyId}`),
    );
    expect(output).toMatch(new RegExp(`Serial Number \\(hex\\): ${revokedSerial}`));
    expect(output).toMatch(/Revoked certificates \(1\)/);
  });

  it('says that an empty CRL revokes none', () => {
    const { status, output } = runTool(
      'certtool',
      '--crl-info',
      '--infile',
      files.write('empty.pem', encodePem('X509 CRL', authority.crl())),
    );
    expect(status).toBe(0);
    expect(output).toMatch(/No revoked certificates/);
  });
});
