// The key that signs JWT-SVIDs signs tokens of our workloads and nothing else, and nothing is certified for it.
import { generateKeyPairSync, verify } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type JwtClaims, jwtSigningInput } from '../../src/core/jwt-svid.ts';
import type { SpiffeId } from '../../src/core/spiffe-id.ts';
import { signJwt } from '../../src/signer/jwt-policy.ts';
import { decide } from '../../src/signer/policy.ts';
import { rawEcdsaSignature } from '../../src/x509/ecdsa.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import {
  certificateItem,
  certificateTbs,
  nowMs,
  nowSeconds,
  policyContext,
  spkiOf,
  testAuthority,
  trustDomain,
} from './fixture.ts';

const test = testAuthority();
const pair = generateKeyPairSync('ec', { namedCurve: 'P-256' });
const publicKeySpki = spkiOf(pair.publicKey);
const keyId = keyIdOf(publicKeySpki);
const jwtKey = { ckaId: '04', algorithm: 'ecdsa-sha256', publicKeySpki, maxSeconds: 3600 } as const;
test.hsm.keys.set('04', { key: pair.privateKey, algorithm: 'ecdsa-sha256' });

const good: JwtClaims = {
  tokenIssuer: 'https://oidc.test.example',
  spiffeId: `spiffe://${trustDomain}/orders` as SpiffeId,
  audience: ['payments'],
  issuedAtSeconds: nowSeconds,
  expiresAtSeconds: nowSeconds + 300,
  tokenId: 'A'.repeat(22),
};
const signed = (change: Partial<JwtClaims>, by = keyId, authority = { ...test.authority, jwtKey }) =>
  signJwt({ keyId: by, claims: { ...good, ...change } }, { authority, hsm: test.hsm, nowMs });

describe('a JWT-SVID', () => {
  it('is signed with that key as r ‖ s, over bytes that the signer makes', async () => {
    for (const audience of [['payments'], Array.from({ length: 8 }, (_, index) => `é${index}`)]) {
      const input = jwtSigningInput(keyId, { ...good, audience });
      const signature = await signed({ audience });
      expect(signature.length).toBe(64);
      const key = { key: pair.publicKey, dsaEncoding: 'ieee-p1363' } as const;
      expect(verify('sha256', Buffer.from(input), key, signature)).toBe(true);
      const [header, payload] = input
        .split('.')
        .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as unknown);
      expect(header).toEqual({ alg: 'ES256', kid: keyId, typ: 'JWT' });
      expect(payload).toEqual({
        ...{ iss: good.tokenIssuer, sub: good.spiffeId, aud: audience, jti: good.tokenId },
        ...{ iat: nowSeconds, exp: nowSeconds + 300 },
      });
    }
  });

  it.each<[string, Partial<JwtClaims>, RegExp]>([
    [
      'of another trust domain',
      { spiffeId: 'spiffe://other.example/orders' as SpiffeId },
      /no workload of ours/,
    ],
    [
      'of the server',
      { spiffeId: `spiffe://${trustDomain}/vouch/server` as SpiffeId },
      /no workload of ours/,
    ],
    ['of a reserved name', { spiffeId: `spiffe://${trustDomain}/vouch` as SpiffeId }, /no workload of ours/],
    ['of the trust domain itself', { spiffeId: `spiffe://${trustDomain}` as SpiffeId }, /needs a path/],
    ['of a name that is no SPIFFE ID', { spiffeId: `spiffe://${trustDomain}/a/../b` as SpiffeId }, /segment/],
    ['for nobody', { audience: [] }, /1 to 8/],
    ['for nine', { audience: Array.from({ length: 9 }, () => 'x') }, /1 to 8/],
    ['for an empty audience', { audience: ['payments', ''] }, /empty/],
    ['for an audience of 1025 bytes', { audience: ['é'.repeat(513)] }, /too long/],
    ['for an audience with a line end', { audience: ['a\nb'] }, /printable/],
    [
      'ahead of the clock',
      { issuedAtSeconds: nowSeconds + 61, expiresAtSeconds: nowSeconds + 300 },
      /future/,
    ],
    ['of yesterday', { issuedAtSeconds: nowSeconds - 61 }, /long past/],
    ['that has ended', { expiresAtSeconds: nowSeconds }, /ends before/],
    ['good for more than an hour', { expiresAtSeconds: nowSeconds + 3601 }, /too long/],
    ['of an issuer that is no URL', { tokenIssuer: 'oidc.test.example' }, /iss is no URL/],
    ['with something else as jti', { tokenId: 'a"b' }, /jti/],
  ])('is refused %s', async (_how, change, why) => {
    await expect(signed(change)).rejects.toThrow(why);
  });

  it('is not signed where that key is not here', async () => {
    const none = test.authority as typeof test.authority & { jwtKey: typeof jwtKey };
    for (const [by, authority] of [['ab'.repeat(20)], [keyId, none]] as const)
      await expect(signed({}, by, authority)).rejects.toMatchObject({ code: 'unavailable-signer' });
  });
});

it('no certificate is signed for the key of JWT-SVIDs', () => {
  const item = certificateItem(test, certificateTbs(test, { spki: publicKeySpki }));
  expect(decide(item, policyContext(test))).toMatchObject({ outcome: 'sign' });
  const decision = decide(item, policyContext(test, { jwtSpki: publicKeySpki }));
  expect(decision).toMatchObject({ outcome: 'refuse', error: { code: 'policy-lint' } });
});

describe('a DER signature as r ‖ s', () => {
  it.each([
    ['short numbers', '3006020101020102', `${'00'.repeat(31)}01${'00'.repeat(31)}02`],
    ['a number with its high bit set', '300702020080020102', `${'00'.repeat(31)}80${'00'.repeat(31)}02`],
  ])('keeps %s', (_what, der, raw) => {
    expect(rawEcdsaSignature(Buffer.from(der, 'hex'), 32).toString('hex')).toBe(raw);
  });

  it.each([
    ['a number of 33 bytes', `3026022101${'00'.repeat(32)}020101`],
    ['a third number', '3009020101020102020103'],
    ['anything behind', '300602010102010200'],
  ])('refuses %s', (_what, der) => {
    expect(() => rawEcdsaSignature(Buffer.from(der, 'hex'), 32)).toThrow(
      expect.objectContaining({ code: 'request-malformed' }),
    );
  });
});
