import { describe, expect, it } from 'vitest';
import { caOf, issuerOf, signedBy } from '../../src/issuance/issuer.ts';
import type { SignatureAlgorithm } from '../../src/x509/algorithm.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { ecKey, ed25519Key, makeRoot, rsaKey, type TestKey } from '../x509/authority.ts';

const keys: [TestKey, readonly SignatureAlgorithm[]][] = [
  [ecKey('P-256'), ['ecdsa-sha256']],
  [ecKey('P-384'), ['ecdsa-sha384']],
  [rsaKey(), ['rsa-pkcs1-sha256', 'rsa-pss-sha256']],
  [ed25519Key(), ['ed25519']],
];
const all = keys.flatMap(([, own]) => own);

describe('an authority', () => {
  it('signs by an algorithm of its key, which its record names', () => {
    for (const [key, own] of keys) {
      const { der: certificateDer } = makeRoot({}, key);
      for (const algorithm of own)
        expect(issuerOf({ certificateDer, algorithm })).toMatchObject({ algorithm });
      for (const algorithm of all.filter((one) => !own.includes(one)))
        expect(() => issuerOf({ certificateDer, algorithm })).toThrow(
          expect.objectContaining({ code: 'integrity-state', message: expect.stringContaining(algorithm) }),
        );
    }
  });

  it('with an RSA key takes a signature of its own scheme only', () => {
    const { der: certificateDer } = makeRoot({}, rsaKey());
    const { tbs, signature } = parseCertificate(certificateDer);
    expect(signedBy(issuerOf({ certificateDer, algorithm: 'rsa-pkcs1-sha256' }), tbs, signature)).toBe(true);
    expect(signedBy(issuerOf({ certificateDer, algorithm: 'rsa-pss-sha256' }), tbs, signature)).toBe(false);
    expect(caOf(certificateDer)).not.toHaveProperty('algorithm');
  });
});
