import { createPublicKey, hash, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import pkcs11 from 'pkcs11js';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { HsmKey } from '../../../src/signer/hsm.ts';
import { readGuardObjects, replaceGuardObject } from '../../../src/signer/pkcs11/guard-object.ts';
import { TokenKey } from '../../../src/signer/pkcs11/key.ts';
import { generateKeyPair } from '../../../src/signer/pkcs11/key-pair.ts';
import { keyTypeProblems } from '../../../src/signer/pkcs11/mechanisms.ts';
import { ecdsaDer, signingMethods } from '../../../src/signer/pkcs11/signing.ts';
import { HsmToken } from '../../../src/signer/pkcs11/token.ts';
import { digestOf, type SignatureAlgorithm, verifySignature } from '../../../src/x509/algorithm.ts';
import { importPublicKey } from '../../../src/x509/public-key.ts';
import type { SigningKeyType } from '../../../src/x509/signing-key-type.ts';
import { newTestToken, temporaryFolder } from '../../support/hsm.ts';

let token: HsmToken;

beforeAll(() => {
  const { hsm } = newTestToken('keys');
  Object.assign(process.env, hsm.environment);
  token = HsmToken.open(hsm, { readWrite: true });
  token.login(hsm.pinFile, join(temporaryFolder('refused'), 'pin-refused'));
});

function signs(key: HsmKey): void {
  const opened = new TokenKey(token, key);
  opened.prove();
  const publicKey = createPublicKey({ key: key.publicKeySpki, format: 'der', type: 'spki' });
  for (const size of [1, 600, 70_000]) {
    const data = randomBytes(size);
    const signature = opened.signPrepared(signingMethods[key.algorithm].input(data));
    expect(verifySignature(key.algorithm, publicKey, data, signature)).toBe(true);
    const digest = digestOf[key.algorithm];
    const given = digest === null ? data : { digest: hash(digest, data, 'buffer') };
    const ofDigest = opened.signPrepared(signingMethods[key.algorithm].input(given));
    expect(verifySignature(key.algorithm, publicKey, data, ofDigest)).toBe(true);
    expect(
      verifySignature(key.algorithm, publicKey, Buffer.concat([data, data, Buffer.from('x')]), signature),
    ).toBe(false);
  }
}

describe('keys made in the token', () => {
  it.each<[SigningKeyType, SignatureAlgorithm]>([
    ['ec-p256', 'ecdsa-sha256'],
    ['ec-p384', 'ecdsa-sha384'],
    ['rsa-3072', 'rsa-pkcs1-sha256'],
    ['rsa-4096', 'rsa-pkcs1-sha256'],
    ['rsa-3072-pss', 'rsa-pss-sha256'],
    ['rsa-4096-pss', 'rsa-pss-sha256'],
    ['ed25519', 'ed25519'],
  ])('%s signs what OpenSSL verifies', (type, algorithm) => {
    expect(keyTypeProblems(token)).toEqual({});
    const key = generateKeyPair(token, { type, label: `test-${type}` });
    expect(key.algorithm).toBe(algorithm);
    expect(key.ckaId).toMatch(/^[0-9a-f]{32}$/);
    expect(importPublicKey(key.publicKeySpki).type).toBe(type.replace(/-pss$/, ''));
    signs(key);
  });

  it('stay there: the token itself refuses to show them', () => {
    const { ckaId } = generateKeyPair(token, { type: 'ec-p256', label: 'stay' });
    const [handle] = token.find([
      { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
      { type: pkcs11.CKA_ID, value: Buffer.from(ckaId, 'hex') },
    ]);
    expect(token.attribute(handle as Buffer, pkcs11.CKA_VALUE)).toBeUndefined();
    const change = (type: number, value: boolean) => () =>
      token.module.C_SetAttributeValue(token.session, handle as Buffer, [{ type, value }]);
    expect(change(pkcs11.CKA_EXTRACTABLE, true)).toThrow(/CKR_/);
    expect(change(pkcs11.CKA_SENSITIVE, false)).toThrow(/CKR_/);
  });
});

describe('ECDSA signatures', () => {
  it('become DER with minimal positive integers', () => {
    const half = (hex: string) => Buffer.from(hex.padStart(64, '0'), 'hex');
    const der = (r: string, s: string) => ecdsaDer(Buffer.concat([half(r), half(s)]), 32).toString('hex');
    expect(der('1', '7f')).toBe('300602010102017f');
    expect(der('80', 'ff')).toBe('3008020200800202 00ff'.replace(' ', ''));
    expect(der('0', '100')).toBe('30070201000202 0100'.replace(' ', ''));
    for (const length of [0, 63, 65, 96])
      expect(() => ecdsaDer(Buffer.alloc(length), 32)).toThrow(/ECDSA signature of/);
  });
});

describe('guards', () => {
  it('are objects of the token: made before the old ones go', () => {
    expect(readGuardObjects(token)).toEqual([]);
    replaceGuardObject(token, Buffer.from('one'), []);
    replaceGuardObject(token, Buffer.from('two'), []);
    expect(readGuardObjects(token).map(String).sort()).toEqual(['one', 'two']);
    replaceGuardObject(token, Buffer.from('three'), [Buffer.from('one'), Buffer.from('nothing')]);
    expect(readGuardObjects(token).map(String).sort()).toEqual(['three', 'two']);
  });

  it('stay where a new one cannot be made', () => {
    const { C_CreateObject } = token.module;
    onTestFinished(() => void Object.assign(token.module, { C_CreateObject }));
    token.module.C_CreateObject = () => {
      throw new Error('CKR_DEVICE_MEMORY');
    };
    const before = readGuardObjects(token).map(String);
    expect(() => replaceGuardObject(token, Buffer.from('four'), readGuardObjects(token))).toThrow(/MEMORY/);
    expect(readGuardObjects(token).map(String)).toEqual(before);
  });

  it('of more than one answer of the token are all read', () => {
    for (let index = 0; index < 70; index += 1) replaceGuardObject(token, Buffer.from(`many ${index}`), []);
    expect(readGuardObjects(token)).toHaveLength(72);
  });
});

describe('a session that the token gave up', () => {
  it('is renewed with its login, and its keys are found again', () => {
    const key = new TokenKey(token, generateKeyPair(token, { type: 'ec-p256', label: 'session' }));
    token.module.C_CloseSession(token.session);
    const input = signingMethods['ecdsa-sha256'].input(Buffer.from('x'));
    expect(() => key.signPrepared(input)).toThrow(/CKR_SESSION_HANDLE_INVALID/);
    // The only session of the process was closed and with it the login: only a new process can present the PIN.
    token.renewSession();
    expect(() => key.refind()).toThrow(/has no private key/);
  });
});
