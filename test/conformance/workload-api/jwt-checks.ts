import { createPublicKey, verify } from 'node:crypto';
import { assert, type Bed, type Check, failsWith, status } from './check.ts';
import type { JwtBundlesResponse, JwtSvidResponse, ValidateResponse, X509SvidResponse } from './client.ts';

const audience = 'spiffe://conformance.example/audience';
const algorithms = ['RS', 'ES', 'PS'].flatMap((kind) => ['256', '384', '512'].map((size) => kind + size));

interface Token {
  header: Record<string, unknown>;
  claims: Record<string, unknown>;
  text: string;
}

function parsed(text: string): Token {
  const parts = text.split('.');
  assert.equal(parts.length, 3, 'not in compact form');
  const [header, claims] = parts
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>);
  assert.ok(header && claims);
  return { header, claims, text };
}

async function tokens(
  { client }: Bed,
  request: Record<string, unknown> = {},
): Promise<JwtSvidResponse['svids']> {
  const { svids } = await client.unary<JwtSvidResponse>('FetchJWTSVID', { audience: [audience], ...request });
  assert.ok(svids.length > 0, 'no SVID');
  return svids;
}

async function firstToken(bed: Bed): Promise<{ id: string; text: string }> {
  const [one] = await tokens(bed);
  assert.ok(one);
  return { id: one.spiffe_id, text: one.svid };
}

function validate({ client }: Bed, svid: string, wanted = audience): Promise<ValidateResponse> {
  return client.unary('ValidateJWTSVID', { audience: wanted, svid });
}

interface Jwk {
  use?: string;
  kid?: string;
  [member: string]: unknown;
}

async function jwks({ client }: Bed): Promise<Map<string, Jwk[]>> {
  const { bundles } = await client.first<JwtBundlesResponse>('FetchJWTBundles');
  const sets = Object.entries(bundles).map(
    ([id, json]) => [id, (JSON.parse(json.toString()) as { keys: Jwk[] }).keys] as const,
  );
  return new Map(sets);
}

const refusals: [string, string, (text: string) => string][] = [
  [
    'tampered',
    'a JWT-SVID with another signature',
    (text) => text.slice(0, -6) + (text.endsWith('AAAAAA') ? 'BBBBBB' : 'AAAAAA'),
  ],
  ['unsigned', 'a JWT-SVID with alg none', (text) => `${encoded({ alg: 'none' })}.${text.split('.')[1]}.`],
  [
    'hmac',
    'a JWT-SVID with alg HS256',
    (text) => `${encoded({ alg: 'HS256', kid: 'a' })}.${text.split('.').slice(1).join('.')}`,
  ],
  ['empty', 'no JWT-SVID', () => ''],
  ['garbage', 'what is no JWT', () => 'garbage'],
];

function encoded(value: unknown): string {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}

export const jwtChecks: Check[] = [
  {
    id: 'jwt-audience-required',
    cites: 'WA §4.5, §6.2.1',
    title: 'FetchJWTSVID without an audience: InvalidArgument',
    run: async ({ client }) =>
      void (await failsWith(status.INVALID_ARGUMENT, client.unary('FetchJWTSVID', {}))),
  },
  {
    id: 'jwt-all-identities',
    cites: 'WA §6.2.1',
    title: 'without a spiffe_id there is a JWT-SVID for every identity, the default first',
    run: async (bed) => {
      const { svids } = await bed.client.first<X509SvidResponse>('FetchX509SVID');
      assert.deepEqual(
        (await tokens(bed)).map((one) => one.spiffe_id),
        svids.map((one) => one.spiffe_id),
      );
    },
  },
  {
    id: 'jwt-one-identity',
    cites: 'WA §6.2.1',
    title: 'with a spiffe_id there is no other',
    run: async (bed) => {
      const { id } = await firstToken(bed);
      const ids = (await tokens(bed, { spiffe_id: id })).map((one) => one.spiffe_id);
      assert.deepEqual([...new Set(ids)], [id]);
    },
  },
  {
    id: 'jwt-other-identity',
    cites: 'WA §6.2.1',
    title: 'with a spiffe_id that is not ours: PermissionDenied',
    run: async (bed) => {
      const { id } = await firstToken(bed);
      const spiffe_id = `${id}/not-ours`;
      await failsWith(
        status.PERMISSION_DENIED,
        bed.client.unary('FetchJWTSVID', { audience: [audience], spiffe_id }),
      );
    },
  },
  {
    id: 'jwt-header',
    cites: 'J §2',
    title:
      'alg is one of the nine; nothing but alg, kid and typ; typ is JWT, JOSE or absent; a kid, which SDKs demand',
    run: async (bed) => {
      const { header } = parsed((await firstToken(bed)).text);
      assert.ok(algorithms.includes(String(header.alg)), String(header.alg));
      assert.ok(
        Object.keys(header).every((name) => ['alg', 'kid', 'typ'].includes(name)),
        JSON.stringify(header),
      );
      assert.ok([undefined, 'JWT', 'JOSE'].includes(header.typ as string | undefined));
      assert.ok(header.kid, 'no kid');
    },
  },
  {
    id: 'jwt-claims',
    cites: 'J §3',
    title: 'sub is the SPIFFE ID, aud has the audience, exp lies ahead',
    run: async (bed) => {
      const { id, text } = await firstToken(bed);
      const { claims } = parsed(text);
      assert.equal(claims.sub, id);
      assert.ok([claims.aud].flat().includes(audience));
      assert.ok(Number(claims.exp) * 1000 > Date.now());
    },
  },
  {
    id: 'jwt-bundles',
    cites: 'WA §6.2.2; B §4',
    title:
      'FetchJWTBundles has a JWK Set for our trust domain, with keys of JWT-SVIDs alone, each with a kid',
    run: async (bed) => {
      const keys = (await jwks(bed)).get((await firstToken(bed)).id.split('/').slice(0, 3).join('/'));
      assert.ok(keys && keys.length > 0, 'no keys of ours');
      for (const key of keys) {
        assert.ok(key.kid, 'no kid');
        assert.ok(key.use === undefined || key.use === 'jwt-svid', key.use);
        assert.equal(key.x5c, undefined);
        assert.equal(key.d, undefined, 'a private key');
      }
    },
  },
  {
    id: 'jwt-signature',
    cites: 'J §2, §4; WA §6.3',
    title: 'the JWT-SVID is signed by the key of the bundle that its kid names',
    run: async (bed) => {
      const { id, text } = await firstToken(bed);
      const { header } = parsed(text);
      const keys = (await jwks(bed)).get(id.split('/').slice(0, 3).join('/')) ?? [];
      const key = keys.find((one) => one.kid === header.kid);
      assert.ok(key, 'no such key');
      const alg = String(header.alg);
      const [head, claims, signature] = text.split('.');
      const isGood = verify(
        `sha${alg.slice(2)}`,
        Buffer.from(`${head}.${claims}`),
        {
          key: createPublicKey({ key: key as never, format: 'jwk' }),
          ...(alg.startsWith('ES') && { dsaEncoding: 'ieee-p1363' as const }),
          // RSA_PKCS1_PSS_PADDING
          ...(alg.startsWith('PS') && { padding: 6 }),
        },
        Buffer.from(signature ?? '', 'base64url'),
      );
      assert.ok(isGood);
    },
  },
  {
    id: 'jwt-validate',
    cites: 'WA §6.2.3',
    title: 'ValidateJWTSVID answers with SPIFFE ID and claims',
    run: async (bed) => {
      const { id, text } = await firstToken(bed);
      const { spiffe_id, claims } = await validate(bed, text);
      assert.equal(spiffe_id, id);
      assert.equal(claims?.fields.sub?.stringValue, id);
      assert.equal(claims?.fields.exp?.numberValue, parsed(text).claims.exp);
      const { aud } = claims?.fields ?? {};
      const audiences = aud?.listValue?.values.map((one) => one.stringValue) ?? [aud?.stringValue];
      assert.ok(audiences.includes(audience), audiences.join());
    },
  },
  {
    id: 'jwt-validate-audience',
    cites: 'WA §6.2.3; J §3.2',
    title: 'ValidateJWTSVID for another audience: InvalidArgument',
    run: async (bed) => {
      const { text } = await firstToken(bed);
      await failsWith(status.INVALID_ARGUMENT, validate(bed, text, 'another'));
    },
  },
  {
    id: 'jwt-validate-audience-required',
    cites: 'WA §4.5, §6.2.3',
    title: 'ValidateJWTSVID without an audience: InvalidArgument',
    run: async (bed) => {
      const { text } = await firstToken(bed);
      await failsWith(status.INVALID_ARGUMENT, validate(bed, text, ''));
    },
  },
  ...refusals.map(
    ([name, what, bend]): Check => ({
      id: `jwt-validate-${name}`,
      cites: 'WA §6.2.3; J §2, §4',
      title: `ValidateJWTSVID of ${what}: InvalidArgument`,
      run: async (bed) => {
        const { text } = await firstToken(bed);
        await failsWith(status.INVALID_ARGUMENT, validate(bed, bend(text)));
      },
    }),
  ),
];
