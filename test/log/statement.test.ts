import { constants, createHash, createHmac, generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { verifierKey } from '../../src/log/note.ts';
import {
  assembleStatement,
  openStatement,
  type Statement,
  type StatementAlgorithm,
  statementSigningInput,
} from '../../src/log/statement.ts';
import { newLogKey } from './log-keys.ts';
import { refusal } from './refusal.ts';

const integrityLog = refusal('integrity-log');
const refusedAs = (text: string) => refusal('integrity-log', text);
const log = newLogKey('example.org/vouch-log').key;
const statement: Statement = {
  trustDomain: parseTrustDomain('example.org'),
  sequence: 3,
  notAfterMs: Date.UTC(2035, 0, 2, 3, 4, 5),
  logKeys: [log, newLogKey('example.org/vouch-log', 'ecdsa-p256').key],
  publicationUrls: ['http://127.0.0.1:8180', 'https://pki.example.org/'],
};

interface Root {
  publicKey: KeyObject;
  alg: StatementAlgorithm;
  keyId: string;
  sign(input: string): Buffer;
}

function newRoot(alg: StatementAlgorithm): Root {
  return rootWith(alg, newKeys(alg));
}

function newKeys(alg: StatementAlgorithm): { publicKey: KeyObject; privateKey: KeyObject } {
  if (alg === 'EdDSA') return generateKeyPairSync('ed25519');
  if (alg === 'RS256' || alg === 'PS256') return generateKeyPairSync('rsa', { modulusLength: 2048 });
  return generateKeyPairSync('ec', { namedCurve: alg === 'ES256' ? 'P-256' : 'P-384' });
}

/** A root that signs by `alg` with these keys. */
function rootWith(alg: StatementAlgorithm, keys: { publicKey: KeyObject; privateKey: KeyObject }): Root {
  const { publicKey, privateKey: key } = keys;
  const padding = constants.RSA_PKCS1_PSS_PADDING;
  const signers: Record<StatementAlgorithm, (input: Buffer) => Buffer> = {
    ES256: (input) => sign('sha256', input, { key, dsaEncoding: 'ieee-p1363' }),
    ES384: (input) => sign('sha384', input, { key, dsaEncoding: 'ieee-p1363' }),
    RS256: (input) => sign('sha256', input, key),
    PS256: (input) => sign('sha256', input, { key, padding, saltLength: 32 }),
    EdDSA: (input) => sign(null, input, key),
  };
  return { publicKey, alg, keyId: keyIdOf(publicKey), sign: (input) => signers[alg](Buffer.from(input)) };
}

/** RFC 7093 method 1 by way of the JWK, as another reader would; of RSA by that of PKCS#1. */
function keyIdOf(key: KeyObject): string {
  const { kty, x = '', y = '' } = key.export({ format: 'jwk' });
  const bytes = (text: string) => Buffer.from(text, 'base64url');
  const point = kty === 'OKP' ? bytes(x) : Buffer.concat([Buffer.from([4]), bytes(x), bytes(y)]);
  const content = kty === 'RSA' ? key.export({ format: 'der', type: 'pkcs1' }) : point;
  return createHash('sha256').update(content).digest('hex').slice(0, 40);
}

const root = newRoot('ES384');
const make = (by: Root, made: Statement = statement) => {
  const input = statementSigningInput(made, by.keyId, by.alg);
  return assembleStatement(input, by.sign(input));
};
const good = make(root);
const b64 = (value: unknown) =>
  Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const header = { alg: root.alg, kid: root.keyId, typ: 'vouch-statement+jwt' };
const payloadText = Buffer.from(good.split('.')[1] ?? '', 'base64url').toString();
/** Signed by the root whatever it says. */
const signed = (head: unknown, payload: unknown, by = root) => {
  const input = `${b64(head)}.${b64(payload)}`;
  return `${input}.${by.sign(input).toString('base64url')}`;
};

describe('a statement', () => {
  it.each(['ES256', 'ES384', 'RS256', 'PS256', 'EdDSA'] as const)('by an %s root opens', (alg) => {
    const by = newRoot(alg);
    expect(openStatement(make(by), by.publicKey)).toEqual(statement);
    expect(JSON.parse(Buffer.from(make(by).split('.')[0] ?? '', 'base64url').toString())).toMatchObject({
      alg,
    });
  });

  it('of an RSA root is verified by the scheme that its header names, and by no other', () => {
    const keys = newKeys('RS256');
    for (const [named, used] of [
      ['RS256', 'PS256'],
      ['PS256', 'RS256'],
    ] as const) {
      const crossed = { ...rootWith(used, keys), alg: named };
      expect(() => openStatement(make(crossed), keys.publicKey)).toThrow(refusedAs('wrong signature'));
    }
    for (const saltLength of [0, 20, 31, 33]) {
      const key = { key: keys.privateKey, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength };
      const salted = {
        ...rootWith('PS256', keys),
        sign: (input: string) => sign('sha256', Buffer.from(input), key),
      };
      expect(() => openStatement(make(salted), keys.publicKey)).toThrow(refusedAs('wrong signature'));
    }
  });

  it("of an RSA or Ed25519 root is not opened by another type's algorithm, or by a MAC under the public key", () => {
    for (const alg of ['RS256', 'PS256', 'EdDSA'] as const) {
      const keys = newKeys(alg);
      const by = rootWith(alg, keys);
      const spki = keys.publicKey.export({ format: 'der', type: 'spki' });
      const pem = keys.publicKey.export({ format: 'pem', type: 'spki' });
      const own: readonly string[] = alg === 'EdDSA' ? [alg] : ['RS256', 'PS256'];
      const others = [
        'none',
        'HS256',
        'ES256',
        'ES384',
        'RS256',
        'RS384',
        'PS256',
        'PS384',
        'EdDSA',
        'Ed25519',
      ];
      for (const other of others.filter((one) => !own.includes(one))) {
        const input = `${b64({ alg: other, kid: by.keyId, typ: header.typ })}.${good.split('.')[1] ?? ''}`;
        const forged = [spki, pem].map((secret) => createHmac('sha256', secret).update(input).digest());
        for (const signature of [...forged, by.sign(input), Buffer.alloc(0)])
          expect(() => openStatement(`${input}.${signature.toString('base64url')}`, by.publicKey)).toThrow(
            refusedAs('not made by this root'),
          );
      }
    }
  });

  it('reads as documented', () => {
    const [head = '', payload = '', signature = ''] = good.split('.');
    expect(JSON.parse(Buffer.from(head, 'base64url').toString())).toEqual(header);
    expect(JSON.parse(Buffer.from(payload, 'base64url').toString())).toEqual({
      trustDomain: 'example.org',
      sequence: 3,
      notAfter: '2035-01-02T03:04:05Z',
      logKeys: statement.logKeys.map(verifierKey),
      publicationUrls: statement.publicationUrls,
    });
    expect(Buffer.from(signature, 'base64url').length).toBe(96);
  });

  it('names the issuers where there is more than one', () => {
    const issuers = ['1a'.repeat(20), '2b'.repeat(20)];
    expect(openStatement(make(root, { ...statement, issuers }), root.publicKey)).toEqual({
      ...statement,
      issuers,
    });
    const payload = JSON.parse(payloadText) as object;
    for (const wrong of [[], ['1A'.repeat(20)], ['1a'], [issuers[0], issuers[0]], [7], 'x', null, {}])
      expect(() => openStatement(signed(header, { issuers: wrong, ...payload }), root.publicKey)).toThrow(
        refusedAs('issuers'),
      );
  });

  it('is not made when readers would refuse it', () => {
    for (const change of [
      { sequence: -1 },
      { sequence: 1.5 },
      { notAfterMs: Number.NaN },
      { logKeys: [] },
      { logKeys: [log, log] },
      { issuers: [] },
      { publicationUrls: ['ftp://example.org'] },
      { trustDomain: 'A' as Statement['trustDomain'] },
    ])
      expect(() => make(root, { ...statement, ...change })).toThrow(/^statement has|Invalid time/);
    expect(() => statementSigningInput(statement, 'zz', 'ES384')).toThrow(/assertion/);
  });

  it('is refused by every other key', () => {
    for (const key of [newRoot('ES384').publicKey, newRoot('ES256').publicKey])
      expect(() => openStatement(good, key)).toThrow(refusedAs('not made by this root'));
    for (const key of [newRoot('EdDSA').publicKey, newRoot('RS256').publicKey])
      expect(() => openStatement(good, key)).toThrow(refusedAs('not made by this root'));
    for (const { publicKey } of [
      generateKeyPairSync('ec', { namedCurve: 'secp256k1' }),
      generateKeyPairSync('rsa', { modulusLength: 1024 }),
      generateKeyPairSync('rsa-pss', { modulusLength: 2048 }),
      generateKeyPairSync('ed448'),
    ])
      expect(() => openStatement(good, publicKey)).toThrow(refusedAs('needs a root with a P-256'));
    const impostor = newRoot('ES384');
    expect(() => openStatement(make({ ...impostor, keyId: root.keyId }), root.publicKey)).toThrow(
      refusedAs('wrong signature'),
    );
  });

  it('is refused with another algorithm in its header', () => {
    for (const alg of ['none', 'None', 'ES256', 'ES512', 'HS256', 'HS384', 'RS256', 'EdDSA', '', null, 384])
      expect(() => openStatement(signed({ ...header, alg }, payloadText), root.publicKey)).toThrow(
        refusedAs('not made by this root'),
      );
    const none = `${b64({ ...header, alg: 'none' })}.${b64(payloadText)}.`;
    expect(() => openStatement(none, root.publicKey)).toThrow(integrityLog);
    const stripped = `${good.slice(0, good.lastIndexOf('.'))}.`;
    expect(() => openStatement(stripped, root.publicKey)).toThrow(integrityLog);
    const input = `${b64({ ...header, alg: 'HS384' })}.${b64(payloadText)}`;
    for (const secret of [
      root.publicKey.export({ format: 'pem', type: 'spki' }),
      root.publicKey.export({ format: 'der', type: 'spki' }),
    ])
      expect(() =>
        openStatement(
          `${input}.${createHmac('sha384', secret).update(input).digest('base64url')}`,
          root.publicKey,
        ),
      ).toThrow(integrityLog);
  });

  it('is refused with any other header', () => {
    const text = JSON.stringify(header);
    for (const head of [
      { ...header, typ: 'JWT' },
      { ...header, typ: undefined },
      { ...header, kid: '0'.repeat(40) },
      { ...header, kid: undefined },
      { ...header, jwk: root.publicKey.export({ format: 'jwk' }) },
      { ...header, crit: ['exp'] },
      { ...header, b64: false },
      { typ: header.typ, kid: header.kid, alg: header.alg },
      ` ${text}`,
      text.replace('{', `{"alg":"${root.alg}",`),
      text.replace('vouch', '\\u0076ouch'),
      'null',
      '',
    ])
      expect(() => openStatement(signed(head, payloadText), root.publicKey), JSON.stringify(head)).toThrow(
        refusedAs('not made by this root'),
      );
    expect(openStatement(signed(header, payloadText), root.publicKey)).toEqual(statement);
  });

  it('is refused with any member missing, added, repeated, of another type or spelling', () => {
    const payload = JSON.parse(payloadText) as Record<string, unknown>;
    const { sequence: _, ...missing } = payload;
    const canonical = (value: Record<string, unknown>) =>
      JSON.stringify(Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))));
    expect(canonical(payload)).toBe(payloadText);
    for (const changed of [
      canonical(missing),
      canonical({ ...payload, extra: 1 }),
      canonical({ ...payload, ['__proto__x']: 1 }),
      canonical({ ...payload, sequence: '3' }),
      canonical({ ...payload, sequence: -1 }),
      canonical({ ...payload, sequence: 2 ** 53 }),
      canonical({ ...payload, sequence: null }),
      canonical({ ...payload, trustDomain: 'EXAMPLE.org' }),
      canonical({ ...payload, trustDomain: ['example.org'] }),
      canonical({ ...payload, trustDomain: 1.5 }),
      canonical({ ...payload, notAfter: '2035-01-02T03:04:05.000Z' }),
      canonical({ ...payload, notAfter: '2035-01-02T03:04:05+00:00' }),
      canonical({ ...payload, notAfter: '2035-02-30T03:04:05Z' }),
      canonical({ ...payload, notAfter: '2035-01-02 03:04:05Z' }),
      canonical({ ...payload, notAfter: 2051313845 }),
      canonical({ ...payload, notAfter: '' }),
      canonical({ ...payload, logKeys: [] }),
      canonical({ ...payload, logKeys: ['x'] }),
      canonical({ ...payload, logKeys: [1] }),
      canonical({ ...payload, logKeys: verifierKey(log) }),
      canonical({ ...payload, logKeys: [verifierKey(log), verifierKey(log)] }),
      canonical({ ...payload, logKeys: Array(17).fill(verifierKey(log)) }),
      canonical({ ...payload, publicationUrls: ['file:///etc/passwd'] }),
      canonical({ ...payload, publicationUrls: ['javascript:alert(1)'] }),
      canonical({ ...payload, publicationUrls: ['http://'] }),
      canonical({ ...payload, publicationUrls: ['http://a b'] }),
      canonical({ ...payload, publicationUrls: [`http://a/${'x'.repeat(2048)}`] }),
      canonical({ ...payload, publicationUrls: Array(17).fill('http://a') }),
      canonical({ ...payload, publicationUrls: null }),
      payloadText.replace('{', '{"sequence":9,'),
      payloadText.replace('"sequence":3', '"sequence":3.0'),
      payloadText.replace('{', '{ '),
      `${payloadText}\n`,
      `${payloadText}{}`,
      '[]',
      'null',
      '3',
      '""',
      '',
      '{',
      '['.repeat(20_000),
      '['.repeat(20_000) + ']'.repeat(20_000),
    ])
      expect(() => openStatement(signed(header, changed), root.publicKey), changed.slice(0, 200)).toThrow(
        integrityLog,
      );
  });

  it('is refused in any other form of JWS and base64url', () => {
    const [head = '', payload = '', signature = ''] = good.split('.');
    const der = Buffer.concat([
      Buffer.from('3066023100', 'hex'),
      Buffer.from(signature, 'base64url').subarray(0, 48),
      Buffer.from('023100', 'hex'),
      Buffer.from(signature, 'base64url').subarray(48),
    ]);
    for (const jws of [
      '',
      '..',
      '.',
      `${head}.${payload}`,
      `${good}.`,
      `${good}.x`,
      `${good}=`,
      `${good}==`,
      `${good}\n`,
      ` ${good}`,
      `${head}=.${payload}.${signature}`,
      `${head}.${payload}=.${signature}`,
      `${head} .${payload}.${signature}`,
      `${head}.${payload}.${signature.slice(0, -1)}`,
      `${head}.${payload}.${signature}AA`,
      `${head}.${payload}.${Buffer.from(signature, 'base64url').toString('base64').replaceAll('A', '+')}`,
      `${head}.${payload}.${der.toString('base64url')}`,
      `${head}.${payload}.${Buffer.alloc(96).toString('base64url')}`,
      `${head}..${signature}`,
      `.${payload}.${signature}`,
      JSON.stringify({ payload, protected: head, signature }),
      `${head}.${payload}.${signature}`.toUpperCase(),
      'a'.repeat(70_000),
      '.'.repeat(65_000),
    ])
      expect(() => openStatement(jws, root.publicKey), jws.slice(0, 80)).toThrow(integrityLog);
  });

  it('is refused with any character changed', () => {
    for (let at = 0; at < good.length; at += 3) {
      const changed = good[at] === 'A' ? 'B' : 'A';
      expect(() => openStatement(good.slice(0, at) + changed + good.slice(at + 1), root.publicKey)).toThrow(
        integrityLog,
      );
    }
  });
});
