// Who knows OpenID Connect and no SPIFFE: libraries of two languages find the keys by themselves.
import { writeFileSync } from 'node:fs';
import { createRemoteJWKSet, jwtVerify } from 'jose';
import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { createEntry, type Jwk, jwtSvid, published } from '../support/jwt.ts';
import { pythonWith } from '../support/python.ts';
import { runTool } from '../x509/oracle-tools.ts';

const tokenIssuer = 'https://oidc.test.example/prod';
let authority: Authority;
let agent: Workload;
let web: string;
let python: string;

beforeAll(async () => {
  python = pythonWith('PyJWT==2.10.1', 'cryptography==46.0.3');
  authority = await bootAuthority({ configure: (config) => void (config.jwt = { issuer: tokenIssuer }) });
  agent = await authority.enroll('agent');
  web = await createEntry(authority, 'web', 'agent');
}, 180_000);

const jwksUrl = () => `${authority.server.ready.publicationUrl}/.well-known/jwks.json`;
const forged = (token: string): string => {
  const [header, , signature] = token.split('.');
  const payload = Buffer.from(
    JSON.stringify({ sub: 'spiffe://test.example/admin', aud: 'payments', exp: 9e9 }),
  );
  return [header, payload.toString('base64url'), signature].join('.');
};

it('the provider says where its keys are, and both documents are served as verifiers cache them', async () => {
  expect(await published(authority, '/.well-known/openid-configuration')).toEqual({
    issuer: tokenIssuer,
    jwks_uri: `${tokenIssuer}/.well-known/jwks.json`,
    authorization_endpoint: '',
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['ES256'],
  });
  const { keys } = await published<{ keys: Jwk[] }>(authority, '/.well-known/jwks.json');
  expect(keys).toHaveLength(1);
  expect(Object.keys(keys[0] ?? {}).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x', 'y']);
  expect(keys[0]).toMatchObject({ kty: 'EC', use: 'sig', alg: 'ES256' });
  const response = await fetch(jwksUrl());
  const etag = response.headers.get('etag') ?? '';
  expect(response.headers.get('content-type')).toBe('application/json');
  expect(response.headers.get('cache-control')).toBe('public, max-age=1');
  expect((await fetch(jwksUrl(), { headers: { 'if-none-match': etag } })).status).toBe(304);
});

describe('jose', () => {
  const verify = (token: string, audience: string) =>
    jwtVerify(token, createRemoteJWKSet(new URL(jwksUrl())), { issuer: tokenIssuer, audience });

  it('takes a token by the keys that it fetches', async () => {
    const { payload } = await verify(await jwtSvid(authority, agent, web, 'payments', 'reports'), 'payments');
    expect(payload).toMatchObject({
      sub: authority.id('web'),
      iss: tokenIssuer,
      aud: ['payments', 'reports'],
    });
  });

  it('refuses it for another audience, and one that was changed', async () => {
    const token = await jwtSvid(authority, agent, web, 'payments');
    await expect(verify(token, 'reports')).rejects.toThrow(/"aud"/);
    await expect(verify(forged(token), 'payments')).rejects.toThrow(/signature verification failed/);
  });
});

describe('PyJWT', () => {
  const program = `
import sys, jwt
url, token, issuer, audience = sys.argv[1:]
key = jwt.PyJWKClient(url).get_signing_key_from_jwt(token)
claims = jwt.decode(token, key, algorithms=["ES256"], issuer=issuer, audience=audience)
print(claims["sub"])`;
  const verify = (token: string, audience: string) => {
    const file = authority.path('verify.py');
    writeFileSync(file, program);
    return runTool(python, file, jwksUrl(), token, tokenIssuer, audience);
  };

  it('takes a token by the keys that it fetches', async () => {
    const token = await jwtSvid(authority, agent, web, 'payments', 'reports');
    expect(verify(token, 'reports')).toMatchObject({ status: 0, output: `${authority.id('web')}\n` });
  });

  it('refuses it for another audience, and one that was changed', async () => {
    const token = await jwtSvid(authority, agent, web, 'payments');
    expect(verify(token, 'reports').output).toMatch(/InvalidAudienceError/);
    expect(verify(forged(token), 'payments').output).toMatch(/InvalidSignatureError/);
  });
});
