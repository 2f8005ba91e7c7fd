import { afterAll, describe, expect, it } from 'vitest';
import { type Reason, reasonCodes } from '../../src/core/reasons.ts';
import type { Serial } from '../../src/core/serial.ts';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { encodePem } from '../../src/x509/pem.ts';
import { ecKey, ed25519Key, freshSerial, rsaKey } from '../x509/authority.ts';
import { ArtefactDirectory, CurrentAuthority, runTool, type ToolAnswer } from '../x509/oracle-tools.ts';

const files = new ArtefactDirectory();
afterAll(() => files[Symbol.dispose]());

const authority = new CurrentAuthority();
const revokedSerial = freshSerial();
const revoked = authority.leaf({ serial: revokedSerial });
const good = authority.leaf();
const shardUrl = `http://ca.example.org/crl/${authority.issuer.key.info.keyId}/3.crl`;
const entry = (serial: Serial, reason: Reason = 'keyCompromise'): Buffer =>
  encodeRevoked({ serial, dateSeconds: authority.nowSeconds - 70, reason });
const rootCrl = authority.crl({ algorithm: authority.root.key.algorithm }, authority.root);
const pem = (name: string, der: Buffer, label = 'CERTIFICATE'): string =>
  files.write(`${name}.pem`, encodePem(label, der));

/** `openssl verify -x509_strict` with the CRLs of issuer and root, all checked. */
function verify(leaf: Buffer, crl: Buffer, ...args: readonly string[]): ToolAnswer {
  const crls = files.write('crls.pem', encodePem('X509 CRL', crl) + encodePem('X509 CRL', rootCrl));
  const trusted = [
    '-CAfile',
    pem('root', authority.root.der),
    '-untrusted',
    pem('issuer', authority.issuer.der),
    '-CRLfile',
    crls,
  ];
  return runTool(
    'openssl',
    'verify',
    '-x509_strict',
    '-crl_check_all',
    ...args,
    ...trusted,
    pem('leaf', leaf),
  );
}

describe('OpenSSL', () => {
  it.each([
    ['full CRL', undefined],
    ['shard', shardUrl],
  ])('accepts and refuses by the %s', (_name, idpUrl) => {
    const crl = authority.crl({ revoked: [entry(revokedSerial)], idpUrl });
    expect(verify(good, crl)).toMatchObject({ status: 0, output: expect.stringMatching(/: OK/) as unknown });
    expect(verify(revoked, crl)).toMatchObject({
      status: 2,
      output: expect.stringMatching(/error 23 .*certificate revoked/) as unknown,
    });
  });

  it('accepts by an empty CRL, and asks for one where there is none', () => {
    expect(verify(good, authority.crl()).status).toBe(0);
    expect(verify(good, rootCrl).output).toMatch(/unable to get certificate CRL/);
  });

  it("stops at a shard that is not the certificate's (error 44)", () => {
    expect(verify(good, authority.crl({ idpUrl: shardUrl.replace('/3.', '/4.') })).output).toMatch(
      /[Dd]ifferent CRL scope/,
    );
  });

  it('refuses an expired CRL, one from the future, and one of a stranger', () => {
    const { nowSeconds } = authority;
    expect(
      verify(good, authority.crl({ thisUpdateSeconds: nowSeconds - 100, nextUpdateSeconds: nowSeconds - 50 }))
        .output,
    ).toMatch(/CRL has expired/);
    expect(verify(good, authority.crl({ thisUpdateSeconds: nowSeconds + 500 })).output).toMatch(
      /CRL is not yet valid/,
    );
    const stranger = new CurrentAuthority();
    expect(verify(good, stranger.crl({ authorityKeyId: authority.issuer.key.info.keyId })).output).toMatch(
      /CRL signature failure/,
    );
  });

  it.each([
    ['P-256', ecKey()],
    ['P-384', ecKey('P-384')],
    ['RSA', rsaKey()],
    ['Ed25519', ed25519Key()],
  ])('verifies the signature and reads every field: %s', (_name, key) => {
    const by = new CurrentAuthority(undefined, key);
    const serials = Object.keys(reasonCodes).map(
      (reason, i) => [`01${String(i).padStart(32, '0')}` as Serial, reason as Reason] as const,
    );
    const crl = by.crl({
      algorithm: key.algorithm,
      revoked: serials.map(([serial, reason]) => entry(serial, reason)),
      idpUrl: shardUrl,
      crlNumber: 1n << 70n,
    });
    const { status, output } = runTool(
      'openssl',
      'crl',
      '-in',
      pem('crl', crl, 'X509 CRL'),
      '-CAfile',
      pem('by', by.issuer.der),
      '-noout',
      '-text',
    );
    expect(status).toBe(0);
    for (const expected of [
      /verify OK/,
      /Version 2 \(0x1\)/,
      /X509v3 CRL Number: \s+1180591620717411303424\s/,
      /X509v3 Issuing Distribution Point: critical\s+Full Name:\s+URI:http:\/\/ca\.example\.org\/crl\/[0-9a-f]{40}\/3\.crl\s+Only User Certificates/,
      /Key Compromise/,
      /CA Compromise/,
      /Affiliation Changed/,
      /Superseded/,
      /Cessation Of Operation/,
      /Certificate Hold/,
      /Remove From CRL/,
      /Privilege Withdrawn/,
      /AA Compromise/,
    ])
      expect(output).toMatch(expected);
    expect(output.match(/Serial Number: /g)).toHaveLength(10);
    expect(output.match(/X509v3 CRL Reason Code/g)).toHaveLength(9);
    expect(output).not.toMatch(/Unspecified/);
  });

  it('finds one in 50,000', () => {
    const others = Array.from({ length: 50_000 }, (_, i) =>
      entry(`01${i.toString(16).padStart(32, '0')}` as Serial),
    );
    const crl = authority.crl({ revoked: [...others, entry(`7f${revokedSerial.slice(2)}` as Serial)] });
    const wanted = authority.leaf({ serial: `7f${revokedSerial.slice(2)}` as Serial });
    expect(verify(wanted, crl).output).toMatch(/certificate revoked/);
    expect(verify(good, crl).status).toBe(0);
  });

  it('agrees on dates from 2050', () => {
    const crl = authority.crl({ nextUpdateSeconds: Date.UTC(2050, 0, 1) / 1000 });
    expect(
      runTool('openssl', 'crl', '-in', pem('late', crl, 'X509 CRL'), '-noout', '-nextupdate').output,
    ).toBe('nextUpdate=Jan  1 00:00:00 2050 GMT\n');
  });
});
