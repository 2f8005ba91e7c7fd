import { execFileSync } from 'node:child_process';
import { sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { checkRootCertificate } from '../../src/ceremony/root-certificate.ts';
import type { Serial } from '../../src/core/serial.ts';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import {
  assembleSigned,
  buildCertificateTbs,
  type CertificateTemplate,
} from '../../src/x509/certificate-tbs.ts';
import { rdnName } from '../../src/x509/name.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import { softwareKey } from './software-ceremony.ts';

const nowMs = Date.parse('2026-06-01T12:00:00Z');
const trustDomain = parseTrustDomain('test.example');
const { privateKey, spki } = softwareKey();
const name = rdnName({ commonName: 'Old root' });

/** A self-signed root with some of it changed. */
function root(change: Partial<CertificateTemplate> = {}, signer = privateKey): Buffer {
  const tbs = buildCertificateTbs({
    ...{ serial: '01' as Serial, algorithm: 'ecdsa-sha256', issuerName: name, subjectName: name, spki },
    notBeforeSeconds: nowMs / 1000 - 86_400,
    notAfterSeconds: nowMs / 1000 + 86_400,
    ...{ uris: [], dnsNames: [], ipAddresses: [], crlUrls: [], ca: {} },
    ...{ authorityKeyId: keyIdOf(spki), subjectKeyId: keyIdOf(spki) },
    ...change,
  });
  return assembleSigned(tbs, 'ecdsa-sha256', sign('sha256', tbs, signer));
}

/** A self-signed root by OpenSSL, with extensions that we never write. */
function opensslRoot(...extensions: string[]): Buffer {
  const all = ['basicConstraints=critical,CA:TRUE', ...extensions].flatMap((one) => ['-addext', one]);
  const request = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const files = ['-keyout', '/dev/null', '-subj', '/CN=Old root', '-outform', 'DER'];
  return execFileSync('openssl', [...request, ...files, ...all], { stdio: ['ignore', 'pipe', 'ignore'] });
}
const usages = 'keyUsage=critical,keyCertSign,cRLSign';

const check = (der: Buffer) => () => checkRootCertificate(der, { trustDomain, nowMs });
const sha1 = 'ab'.repeat(20);

describe('a certificate that is to be a root', () => {
  it('is taken with our name, or with none', () => {
    for (const uris of [[], ['spiffe://test.example']]) expect(check(root({ uris }))).not.toThrow();
    const nameConstraints = { permittedUriDomains: ['test.example'] };
    expect(check(root({ ca: { pathLength: 1, nameConstraints } }))).not.toThrow();
  });

  it.each<[string, Buffer, RegExp]>([
    ['of another issuer', root({ issuerName: rdnName({ commonName: 'Above' }) }), /not self-signed/],
    ['signed by another key', root({}, softwareKey().privateKey), /not signed with its own key/],
    ['of a workload', root({ ca: undefined }), /not a CA/],
    ['that allows no CA below it', root({ ca: { pathLength: 0 } }), /path length 0/],
    ['of another trust domain', root({ uris: ['spiffe://other.example'] }), /names spiffe:\/\/other/],
    [
      'that may not name ours',
      root({ ca: { nameConstraints: { permittedUriDomains: ['other.example'] } } }),
      /does not allow names/,
    ],
    ['that has ended', root({ notAfterSeconds: nowMs / 1000 - 1 }), /not valid now/],
    ['that has not begun', root({ notBeforeSeconds: nowMs / 1000 + 1 }), /not valid now/],
    ['that goes by SHA-1', root({ subjectKeyId: sha1, authorityKeyId: sha1 }), /root\.reissue/],
    ['that names another key above it', root({ authorityKeyId: sha1 }), /root\.reissue/],
    ['that may sign no CRLs', opensslRoot('keyUsage=critical,keyCertSign'), /may not sign/],
    ['for TLS servers only', opensslRoot(usages, 'extendedKeyUsage=serverAuth'), /for some usages only/],
    [
      'that says what nobody knows',
      opensslRoot(usages, '1.2.3.4=critical,DER:0500'),
      /extensions that are not known/,
    ],
    ['that is none', Buffer.from('3000', 'hex'), /cannot be read/],
  ])('is refused: one %s', (_what, der, why) => {
    expect(check(der)).toThrow(why);
  });
});
