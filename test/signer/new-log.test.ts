import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { parseTrustDomain } from '../../src/core/spiffe-id.ts';
import { assembleStatement, type Statement, statementSigningInput } from '../../src/log/statement.ts';
import { authorityOverNewLog } from '../../src/signer/new-log.ts';
import { keyIdOf } from '../../src/x509/public-key.ts';
import { nowMs, spkiOf, testAuthority, trustDomain } from './fixture.ts';

const test = testAuthority();
const { authority, root } = test;

function signed(over: Partial<Statement> & { name?: string }, key = root): string {
  const { name, ...rest } = over;
  const sequence = over.sequence ?? 7;
  const logKey = { ...authority.logKey, name: name ?? `test.example/vouch-log-${sequence}` };
  const notAfterMs = nowMs + 60_000;
  const statement = { trustDomain, sequence, notAfterMs, logKeys: [logKey], publicationUrls: [], ...rest };
  const input = statementSigningInput(statement, keyIdOf(spkiOf(key.publicKey)), 'ES256');
  return assembleStatement(input, signatureOf(input, key.privateKey));
}

function signatureOf(input: string, key: KeyObject): Buffer {
  return sign('sha256', Buffer.from(input, 'ascii'), { key, dsaEncoding: 'ieee-p1363' });
}

const opened = (statement: string, present = authority, key = root) =>
  authorityOverNewLog(present, { statement, rootSpki: spkiOf(key.publicKey) }, nowMs);

describe("the root's statement", () => {
  it('opens a new log under the same keys, and again changes nothing', () => {
    const over = opened(signed({}));
    expect(over).toEqual({ ...authority, logOrigin: 'test.example/vouch-log-7' });
    expect(opened(signed({}), over)).toEqual(over);
    expect(opened(signed({ sequence: 8 }), over).logOrigin).toBe('test.example/vouch-log-8');
    expect(opened(signed({ sequence: 1, name: authority.logOrigin }))).toEqual(authority);
  });

  it('opens it where it was renewed since, for a signer that was away meanwhile', () => {
    const renewed = signed({ sequence: 8, name: 'test.example/vouch-log-7' });
    expect(opened(renewed)).toEqual({ ...authority, logOrigin: 'test.example/vouch-log-7' });
    const at7 = { ...authority, logOrigin: 'test.example/vouch-log-7' };
    expect(opened(renewed, at7)).toEqual(at7);
  });

  it('says which other tokens have keys of the log, and that none has any more', () => {
    const own = { ...authority.logKey, name: 'test.example/vouch-log-7' };
    const { algorithm, publicKeySpki } = testAuthority().authority.logKey;
    const standby = { algorithm, publicKeySpki };
    const over = opened(signed({ logKeys: [{ ...standby, name: own.name }, own] }));
    expect(over).toEqual({ ...authority, logOrigin: own.name, otherLogKeys: [standby] });
    expect(opened(signed({ sequence: 8 }), over)).toEqual({
      ...authority,
      logOrigin: 'test.example/vouch-log-8',
    });
    const stray = { ...standby, name: 'test.example/vouch-log-6' };
    expect(() => opened(signed({ logKeys: [own, stray] }))).toThrow(/another log key/);
  });

  const later = { ...authority, logOrigin: 'test.example/vouch-log-9' };
  const other = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const logKeys = [
    {
      name: 'test.example/vouch-log-7',
      algorithm: 'ecdsa-p256',
      publicKeySpki: spkiOf(other.publicKey),
    } as const,
  ];
  it.each([
    ['of a root that is not ours', () => opened(signed({}, other), authority, other)],
    ['that another key signed', () => opened(signed({}, other))],
    ['of a lower sequence', () => opened(signed({}), later)],
    ['that opened the log at first', () => opened(signed({ sequence: 1, name: authority.logOrigin }), later)],
    [
      'that only renews one of an earlier log',
      () => opened(signed({ sequence: 10, name: authority.logOrigin }), later),
    ],
    [
      'whose log a later one would open',
      () => opened(signed({ sequence: 7, name: 'test.example/vouch-log-8' })),
    ],
    ['with a log of another form', () => opened(signed({ name: 'test.example/vouch-log-07' }))],
    ['with a log key that is not ours', () => opened(signed({ logKeys }))],
    ['of another trust domain', () => opened(signed({ trustDomain: parseTrustDomain('evil.example') }))],
    ['that has expired', () => opened(signed({ notAfterMs: nowMs - 1000 }))],
  ])('%s opens none (I11)', (_what, attempt) => {
    expect(attempt).toThrow(expect.objectContaining({ code: expect.stringMatching(/^integrity-/) }));
  });
});
