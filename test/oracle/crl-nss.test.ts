import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeRevoked } from '../../src/x509/crl-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import { ecKey, freshSerial } from '../x509/authority.ts';
import { ArtefactDirectory, CurrentAuthority, runTool, type ToolAnswer } from '../x509/oracle-tools.ts';

const files = new ArtefactDirectory();
afterAll(() => files[Symbol.dispose]());

const database = `sql:${files.path}`;
const authority = new CurrentAuthority(ecKey('P-384'));
const revokedSerial = freshSerial();
const entry = encodeRevoked({
  serial: revokedSerial,
  dateSeconds: authority.nowSeconds - 70,
  reason: 'keyCompromise',
});

function certutil(...args: readonly string[]): ToolAnswer {
  return runTool('certutil', ...args, '-d', database);
}

function add(name: string, der: Buffer, trust: string): void {
  const { status, output } = certutil('-A', '-n', name, '-t', trust, '-i', files.write(`${name}.der`, der));
  expect(output).toBe('');
  expect(status).toBe(0);
}

function importCrl(der: Buffer): ToolAnswer {
  return runTool('crlutil', '-I', '-d', database, '-i', files.write('crl.der', der), '-t', '1');
}

/** As a TLS client and as a TLS server. */
function verify(name: string): ToolAnswer[] {
  return ['C', 'V'].map((usage) => certutil('-V', '-n', name, '-u', usage));
}

describe('NSS', () => {
  beforeAll(() => {
    expect(certutil('-N', '--empty-password').status).toBe(0);
    add('root', authority.root.der, 'CT,,');
    add('issuer', authority.issuer.der, ',,');
    add('good', authority.leaf(), ',,');
    add(
      'revoked',
      authority.leaf({ serial: revokedSerial, subjectName: rdnName({ commonName: 'revoked' }) }),
      ',,',
    );
  });

  it('accepts the path, and refuses by the full CRL', () => {
    for (const { output } of [...verify('good'), ...verify('revoked')])
      expect(output).toMatch(/certificate is valid/);
    expect(importCrl(authority.crl({ revoked: [entry] })).status).toBe(0);
    for (const { output } of verify('good')) expect(output).toMatch(/certificate is valid/);
    for (const { output } of verify('revoked')) expect(output).toMatch(/revoked/i);
  });

  it('does not take a shard: it knows no critical IDP', () => {
    const shard = authority.crl({
      idpUrl: 'http://ca.example.org/crl/a/3.crl',
      thisUpdateSeconds: authority.nowSeconds - 30,
    });
    expect(importCrl(shard).output).toMatch(/unknown critical extension|CRITICAL/i);
  });
});
