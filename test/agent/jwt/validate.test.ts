import { createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import fc from 'fast-check';
import { exportJWK, SignJWT } from 'jose';
import { beforeAll, describe, expect, it } from 'vitest';
import { hasDuplicateMembers } from '../../../src/agent/jwt/unique-members.ts';
import { type JwtTrust, validateJwtSvid } from '../../../src/agent/jwt/validate.ts';
import { VouchError } from '../../../src/core/errors.ts';
import { parseTrustDomain } from '../../../src/core/spiffe-id.ts';
import { bestOfThreeMs, limitMs } from '../../support/limits.ts';

const nowSeconds = 1_795_000_000;
const trustDomain = parseTrustDomain('test.example');
const pairs = {
  ES256: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
  ES384: generateKeyPairSync('ec', { namedCurve: 'P-384' }),
  ES512: generateKeyPairSync('ec', { namedCurve: 'P-521' }),
  RSA: generateKeyPairSync('rsa', { modulusLength: 2048 }),
  weak: generateKeyPairSync('rsa', { modulusLength: 1024 }),
  other: generateKeyPairSync('ec', { namedCurve: 'P-256' }),
};
type Name = keyof typeof pairs;
const good = { sub: 'spiffe://test.example/web', aud: ['payments', 'reports'], exp: nowSeconds + 300 };
let trust: JwtTrust;

beforeAll(async () => {
  const named = (['ES256', 'ES384', 'ES512', 'RSA', 'weak'] as const).map(async (kid) => ({
    ...(await exportJWK(pairs[kid].publicKey)),
    ...{ kid, use: 'jwt-svid' },
  }));
  const other = await exportJWK(pairs.other.publicKey);
  const keys = [
    ...(await Promise.all(named)),
    { ...other, kid: 'x509', use: 'x509-svid' },
    { ...other, kid: 'unused' },
    { ...other, kid: 'twice', use: 'jwt-svid' },
    { ...other, kid: 'twice', use: 'jwt-svid' },
    { ...other, kid: 'for-es384', use: 'jwt-svid', alg: 'ES384' },
    { kty: 'oct', k: 'c2VjcmV0', kid: 'oct', use: 'jwt-svid' },
    { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA', kid: 'off-curve', use: 'jwt-svid' },
  ];
  trust = { trustDomain, keys, nowMs: nowSeconds * 1000 };
});

/** A token that another library signs, which takes what it is given. */
function signed(
  claims: object = good,
  header: { alg?: string; kid?: string; typ?: string; [member: string]: unknown } = {},
  key: KeyObject = pairs.ES256.privateKey,
): Promise<string> {
  return new SignJWT({ ...claims }).setProtectedHeader({ alg: 'ES256', kid: 'ES256', ...header }).sign(key);
}

const encoded = (text: string): string => Buffer.from(text).toString('base64url');
const refusal = (token: string, audience = 'payments', by = trust): string => {
  try {
    validateJwtSvid(token, audience, by);
  } catch (error) {
    if (error instanceof VouchError && error.code === 'denied-evidence') return error.detail;
    throw error;
  }
  return 'it was taken';
};

describe('a JWT-SVID is taken', () => {
  it.each<[string, Name]>([
    ['ES256', 'ES256'],
    ['ES384', 'ES384'],
    ['ES512', 'ES512'],
    ['RS256', 'RSA'],
    ['RS384', 'RSA'],
    ['RS512', 'RSA'],
    ['PS256', 'RSA'],
    ['PS384', 'RSA'],
    ['PS512', 'RSA'],
  ])('signed by %s', async (alg, kid) => {
    const token = await signed(good, { alg, kid }, pairs[kid].privateKey);
    expect(validateJwtSvid(token, 'reports', trust)).toEqual({ spiffeId: good.sub, claims: good });
    const [header, payload, signature = ''] = token.split('.');
    const turned = signature.startsWith('A') ? `B${signature.slice(1)}` : `A${signature.slice(1)}`;
    expect(refusal(`${header}.${payload}.${turned}`)).toMatch(/signature/);
  });

  it.each<[string, object, Record<string, unknown>]>([
    ['of typ JWT', {}, { typ: 'JWT' }],
    ['of typ JOSE', {}, { typ: 'JOSE' }],
    ['with one audience as text', { aud: 'payments' }, {}],
    ['with claims of its own', { team: { name: 'shop', names: ['a', 'a'] } }, {}],
    ['whose clock was a little behind', { exp: nowSeconds - 20 }, {}],
    ['whose clock was a little ahead', { iat: nowSeconds + 20, nbf: nowSeconds + 20 }, {}],
  ])('%s', async (_how, claims, header) => {
    const token = await signed({ ...good, ...claims }, header);
    expect(validateJwtSvid(token, 'payments', trust).claims).toEqual({ ...good, ...claims });
  });
});

describe('a JWT-SVID is refused', () => {
  it.each<[string, object, RegExp]>([
    ['without exp', { exp: undefined }, /no exp/],
    ['with exp as text', { exp: String(nowSeconds + 300) }, /no exp/],
    ['that has expired', { exp: nowSeconds - 30 }, /expired/],
    ['that is not valid yet', { nbf: nowSeconds + 31 }, /not valid yet/],
    ['that was issued in the future', { iat: nowSeconds + 31 }, /not valid yet/],
    ['with iat as text', { iat: 'now' }, /no time/],
    ['for another audience', { aud: ['reports'] }, /another audience/],
    ['for a prefix of the audience', { aud: ['pay', 'payments2', 'PAYMENTS'] }, /another audience/],
    ['without audience', { aud: undefined }, /for nobody/],
    ['for no audience', { aud: [] }, /another audience/],
    ['for an audience that is none', { aud: ['payments', 1] }, /for nobody/],
    ['without sub', { sub: undefined }, /no sub/],
    ['of another trust domain', { sub: 'spiffe://other.example/web' }, /another trust domain/],
    ['of a trust domain that looks like it', { sub: 'spiffe://test.example.evil/web' }, /another trust/],
    ['of a sub that is no SPIFFE ID', { sub: 'https://test.example/web' }, /no SPIFFE ID/],
    ['of a sub with a way out', { sub: 'spiffe://test.example/a/../web' }, /no SPIFFE ID/],
    ['of the trust domain itself', { sub: 'spiffe://test.example' }, /no SPIFFE ID/],
  ])('%s', async (_how, claims, why) => {
    expect(refusal(await signed({ ...good, ...claims }))).toMatch(why);
  });

  it.each<[string, object, RegExp]>([
    ['of another typ', { typ: 'at+jwt' }, /typ/],
    ['of a typ that is no text', { typ: null }, /typ/],
    ['with its key inside', { jwk: {} }, /header has members/],
    ['with a key to fetch', { jku: 'https://evil.example' }, /header has members/],
    ['with critical extensions', { crit: ['exp'], exp: 1 }, /header has members/],
    ['without kid', { kid: undefined }, /no kid/],
    ['with an empty kid', { kid: '' }, /no kid/],
    ['with a kid that is not known', { kid: 'nobody' }, /no key/],
    ['with a kid that two keys have', { kid: 'twice' }, /no key/],
    ['by a key of X.509-SVIDs', { kid: 'x509' }, /no key/],
    ['by a key without use', { kid: 'unused' }, /no key/],
    ['by a key for another alg', { kid: 'for-es384' }, /another alg/],
    ['by a key that two share', { kid: 'oct' }, /does not go/],
    ['by a key that is no point of the curve', { kid: 'off-curve' }, /does not go/],
    ['by a curve of another alg', { kid: 'ES384' }, /does not go/],
    ['by an RSA key', { kid: 'RSA' }, /does not go/],
    ['by another key than it says', { alg: 'ES256' }, /signature/],
  ])('%s', (_how, header, why) => {
    const head = encoded(JSON.stringify({ alg: 'ES256', kid: 'ES256', ...header }));
    expect(refusal(`${head}.${encoded(JSON.stringify(good))}.${'A'.repeat(86)}`)).toMatch(why);
  });

  it('unsigned, whatever it calls that', () => {
    for (const alg of ['none', 'None', 'NONE', '', 'HS256', 'EdDSA', 'toString', '__proto__'])
      for (const signature of ['', 'AAAA']) {
        const head = encoded(JSON.stringify({ alg, kid: 'ES256' }));
        const token = `${head}.${encoded(JSON.stringify(good))}.${signature}`;
        expect(refusal(token)).toMatch(signature === '' ? /no compact JWS/ : /alg/);
      }
  });

  it('by HS256 with the public key as the secret', () => {
    const input = `${encoded('{"alg":"HS256","kid":"ES256"}')}.${encoded(JSON.stringify(good))}`;
    for (const format of ['pem', 'der'] as const) {
      const secret = pairs.ES256.publicKey.export({ type: 'spki', format: format as 'der' });
      const signature = createHmac('sha256', secret).update(input).digest('base64url');
      expect(refusal(`${input}.${signature}`)).toMatch(/alg is not accepted/);
    }
  });

  it('by an RSA key of 1024 bits', () => {
    const input = `${encoded('{"alg":"RS256","kid":"weak"}')}.${encoded(JSON.stringify(good))}`;
    const signature = sign('sha256', Buffer.from(input), pairs.weak.privateKey).toString('base64url');
    expect(refusal(`${input}.${signature}`)).toMatch(/does not go/);
  });

  it('with a member twice, in header or payload, also where one is spelt with escapes', () => {
    const key = { key: pairs.ES256.privateKey, dsaEncoding: 'ieee-p1363' } as const;
    const withParts = (header: string, payload: string) => {
      const input = `${encoded(header)}.${encoded(payload)}`;
      return `${input}.${sign('sha256', Buffer.from(input), key).toString('base64url')}`;
    };
    const [header, payload] = ['{"alg":"ES256","kid":"ES256"}', JSON.stringify(good)];
    expect(refusal(withParts(header, payload))).toBe('it was taken');
    const twice = payload.replace('{', '{"sub":"spiffe://test.example/admin",');
    expect(refusal(withParts(header, twice))).toMatch(/payload has a member twice/);
    expect(refusal(withParts(header, twice.replace('"sub"', '"\\u0073ub"')))).toMatch(/member twice/);
    expect(refusal(withParts(header.replace('{', '{"kid":"RSA",'), payload))).toMatch(/header has a member/);
    expect(refusal(withParts(header, payload.replace('}', ',"a":[{"b":1,"c":{},"b":2}]}')))).toMatch(/twice/);
    expect(refusal(withParts(header, '[]'))).toMatch(/no object/);
    expect(refusal(withParts(header, '\ufeff{}'))).toMatch(/not JSON/);
  });

  it('in another serialization, or in another spelling of its bytes', async () => {
    const token = await signed();
    const [header = '', payload = '', signature = ''] = token.split('.');
    const json = JSON.stringify({ protected: header, payload, signature });
    for (const one of [
      '',
      '.',
      '..',
      '...',
      json,
      `${header}.${payload}`,
      `${token}.`,
      `${token}.AAAA`,
      ` ${token}`,
    ])
      expect(refusal(one)).toMatch(/no compact JWS|base64url|not JSON/);
    for (const one of [
      `${header}.${payload}.${signature}=`,
      `${header}.${payload}=.${signature}`,
      `${token}\n`,
    ])
      expect(refusal(one)).toMatch(/base64url|signature/);
  });

  it('of any size or form in a few milliseconds', async () => {
    const [header = '', , signature = ''] = (await signed()).split('.');
    const nested = '['.repeat(12_000) + ']'.repeat(12_000);
    const inputs = [
      'A'.repeat(32 * 1024),
      `${header}.${encoded(nested)}.${signature}`,
      '.'.repeat(32 * 1024),
    ];
    for (const input of inputs)
      expect(bestOfThreeMs(() => expect(refusal(input)).not.toBe('it was taken'))).toBeLessThan(limitMs(100));
    expect(refusal('A'.repeat(32 * 1024 + 1))).toMatch(/too long/);
  });
});

it('finds a name that an object has twice, and no other', () => {
  const json = fc.json({ maxDepth: 4 });
  fc.assert(fc.property(json, (text) => !hasDuplicateMembers(text)));
  fc.assert(
    fc.property(fc.string(), fc.jsonValue(), fc.jsonValue(), (name, one, two) => {
      const [a, b] = [JSON.stringify(name), JSON.stringify(`${name}x`)];
      const [x, y] = [JSON.stringify(one), JSON.stringify(two)];
      return (
        hasDuplicateMembers(`[{${a}: ${x},\n${a}: ${y}}]`) &&
        !hasDuplicateMembers(`{${a}:${x},${b}:{${a}:${y}}}`)
      );
    }),
  );
});
