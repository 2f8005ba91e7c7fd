import { chmodSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  encodeAuthority,
  parseAuthority,
  readAuthority,
  type SignerAuthority,
} from '../../src/signer/authority-file.ts';
import { policyIssuer } from '../../src/signer/policy-issuer.ts';
import { temporaryFolder } from '../support/hsm.ts';
import { certificateTbs, testAuthority } from './fixture.ts';

const { authority } = testAuthority();
const text = encodeAuthority(authority);

describe('authority.json', () => {
  it('reads back as it was written', () => {
    expect(parseAuthority(text, 'f')).toEqual(authority);
    const other = { ...authority, rollbackMark: { file: '/mark' } };
    expect(parseAuthority(encodeAuthority(other), 'f')).toEqual(other);
    const [issuer] = authority.issuers;
    const adopted = {
      ...authority,
      issuers: [{ ...issuer, ckaId: 'label:a key of 2019' }],
    } as SignerAuthority;
    expect(parseAuthority(encodeAuthority(adopted), 'f')).toEqual(adopted);
    const { algorithm, publicKeySpki } = testAuthority().authority.logKey;
    const paired = { ...authority, otherLogKeys: [{ algorithm, publicKeySpki }] };
    expect(parseAuthority(encodeAuthority(paired), 'f')).toEqual(paired);
    const answering = {
      ...authority,
      ocspKey: { ckaId: '03', algorithm: 'ecdsa-sha256' as const, publicKeySpki },
    };
    expect(parseAuthority(encodeAuthority(answering), 'f')).toEqual(answering);
    const jwtKey = { ...answering.ocspKey, maxSeconds: 3600 };
    const vouching = { ...authority, jwtKey };
    expect(parseAuthority(encodeAuthority(vouching), 'f')).toEqual(vouching);
    for (const change of [{ algorithm: 'ecdsa-sha384' as const }, { maxSeconds: -1 }])
      expect(() =>
        parseAuthority(encodeAuthority({ ...authority, jwtKey: { ...jwtKey, ...change } }), 'f'),
      ).toThrow(/malformed/);
  });

  it('refuses unknown, missing and malformed members, naming the file', () => {
    const value = JSON.parse(text) as {
      limits: object;
      issuers: object[];
      logKey: object;
      [name: string]: unknown;
    };
    const broken = [
      { ...value, version: 2 },
      { ...value, extra: 1 },
      { ...value, limits: { ...value.limits, maxCrlSeconds: -1 } },
      { ...value, limits: { ...value.limits, maxCrlSeconds: 1.5 } },
      { ...value, limits: { ...value.limits, extra: 1 } },
      { ...value, issuers: {} },
      { ...value, issuers: [{ ...value.issuers[0], algorithm: 'sha1' }] },
      { ...value, issuers: [{ ...value.issuers[0], keyId: 'AB'.repeat(20) }] },
      { ...value, issuers: [{ ...value.issuers[0], certificate: '!' }] },
      { ...value, logKey: { ...value.logKey, ckaId: '0' } },
      { ...value, logKey: { ...value.logKey, ckaId: 'label:' } },
      { ...value, logKey: { ...value.logKey, ckaId: 'label:a\nb' } },
      { ...value, otherLogKeys: [] },
      { ...value, otherLogKeys: {} },
      { ...value, otherLogKeys: [{ algorithm: 'ed25519' }] },
      { ...value, otherLogKeys: [{ algorithm: 'sha1', publicKeySpki: 'AAAA' }] },
      { ...value, otherLogKeys: [{ algorithm: 'ed25519', publicKeySpki: 'AAAA', ckaId: '01' }] },
      { ...value, trustDomain: 'A' },
      { ...value, logOrigin: 'a b' },
      { ...value, rollbackMark: 'none' },
      { ...value, rollbackMark: { file: 'relative' } },
      [],
      null,
      'x',
    ];
    for (const one of broken)
      expect(() => parseAuthority(JSON.stringify(one), '/state/authority.json')).toThrow(
        expect.objectContaining({
          code: 'config-state',
          message: expect.stringContaining('/state/authority.json'),
        }),
      );
    for (const name of Object.keys(value)) {
      const { [name]: _left, ...rest } = value;
      expect(() => parseAuthority(JSON.stringify(rest), 'f')).toThrow(/malformed/);
    }
    expect(() => parseAuthority('{', 'f')).toThrow(/malformed/);
  });

  it('is refused where others can write it, or where it is missing', () => {
    const file = join(temporaryFolder('authority'), 'authority.json');
    expect(() => readAuthority(file)).toThrow(/vouch init/);
    writeFileSync(file, text, { mode: 0o600 });
    expect(readAuthority(file)).toEqual(authority);
    for (const mode of [0o660, 0o602]) {
      chmodSync(file, mode);
      expect(() => readAuthority(file)).toThrow(/chmod 600/);
    }
    chmodSync(file, 0o600);
    for (const mode of [0o770, 0o707]) {
      chmodSync(dirname(file), mode);
      expect(() => readAuthority(file)).toThrow(/chmod 700/);
    }
  });

  it('must hold the certificate of a CA with that key', () => {
    const [issuer] = authority.issuers;
    if (!issuer) throw new Error('issuer');
    expect(policyIssuer(issuer).keyId).toBe(issuer.keyId);
    const certificates = [Buffer.from('junk'), certificateTbs(testAuthority())];
    for (const certificateDer of certificates)
      expect(() => policyIssuer({ ...issuer, certificateDer })).toThrow(
        expect.objectContaining({ code: 'config-state' }),
      );
    expect(() => policyIssuer({ ...issuer, keyId: 'ab'.repeat(20) })).toThrow(/no usable certificate/);
    for (const algorithm of ['ecdsa-sha384', 'ed25519', 'rsa-pkcs1-sha256', 'rsa-pss-sha256'] as const)
      expect(() => policyIssuer({ ...issuer, algorithm })).toThrow(/no usable certificate/);
  });
});
