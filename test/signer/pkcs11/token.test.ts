import { createPublicKey, randomBytes } from 'node:crypto';
import { join } from 'node:path';
import pkcs11 from 'pkcs11js';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { HsmKey } from '../../../src/signer/hsm.ts';
import { curves, ecSpki } from '../../../src/signer/pkcs11/attributes.ts';
import { readGuardObjects, replaceGuardObject } from '../../../src/signer/pkcs11/guard-object.ts';
import { publicSpki, TokenKey } from '../../../src/signer/pkcs11/key.ts';
import { type GeneratedKeyType, generateKeyPair, hasEd25519 } from '../../../src/signer/pkcs11/key-pair.ts';
import { ecdsaDer, signingMethods } from '../../../src/signer/pkcs11/signing.ts';
import { HsmToken } from '../../../src/signer/pkcs11/token.ts';
import { type SignatureAlgorithm, verifySignature } from '../../../src/x509/algorithm.ts';
import { importPublicKey } from '../../../src/x509/public-key.ts';
import { newTestToken, temporaryFolder } from '../../support/hsm.ts';

let token: HsmToken;

beforeAll(() => {
  const { hsm } = newTestToken('keys');
  process.env.SOFTHSM2_CONF = hsm.environment.SOFTHSM2_CONF;
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
    expect(
      verifySignature(key.algorithm, publicKey, Buffer.concat([data, data, Buffer.from('x')]), signature),
    ).toBe(false);
  }
}

describe('keys made in the token', () => {
  it.each<[GeneratedKeyType, SignatureAlgorithm]>([
    ['ec-p256', 'ecdsa-sha256'],
    ['ec-p384', 'ecdsa-sha384'],
    ['ed25519', 'ed25519'],
  ])('%s signs what OpenSSL verifies', (type, algorithm) => {
    expect(hasEd25519(token)).toBe(true);
    const key = generateKeyPair(token, { type, label: `test-${type}` });
    expect(key.algorithm).toBe(algorithm);
    expect(key.ckaId).toMatch(/^[0-9a-f]{32}$/);
    expect(importPublicKey(key.publicKeySpki).type).toBe(type);
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

describe('keys that are there already', () => {
  const rsa = (bits: number, ckaId: string, overrides: Record<number, boolean> = {}) => {
    const id = Buffer.from(ckaId, 'hex');
    const attributes = {
      [pkcs11.CKA_TOKEN]: true,
      [pkcs11.CKA_PRIVATE]: true,
      [pkcs11.CKA_SENSITIVE]: true,
      [pkcs11.CKA_EXTRACTABLE]: false,
      [pkcs11.CKA_SIGN]: true,
      ...overrides,
    };
    token.module.C_GenerateKeyPair(
      token.session,
      { mechanism: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN },
      [
        { type: pkcs11.CKA_TOKEN, value: true },
        { type: pkcs11.CKA_ID, value: id },
        { type: pkcs11.CKA_MODULUS_BITS, value: bits },
        { type: pkcs11.CKA_PUBLIC_EXPONENT, value: Buffer.from([1, 0, 1]) },
      ],
      [
        { type: pkcs11.CKA_ID, value: id },
        ...Object.entries(attributes).map(([type, value]) => ({ type: Number(type), value })),
      ],
    );
    const publicKeySpki = publicSpki(token, ckaId);
    if (!publicKeySpki) throw new Error('public half');
    return publicKeySpki;
  };

  it('RSA signs with PKCS#1 v1.5 and with PSS', () => {
    const publicKeySpki = rsa(2048, 'a1');
    expect(importPublicKey(publicKeySpki).type).toBe('rsa-2048');
    signs({ ckaId: 'a1', algorithm: 'rsa-pkcs1-sha256', publicKeySpki });
    signs({ ckaId: 'a1', algorithm: 'rsa-pss-sha256', publicKeySpki });
  });

  it('are refused when they can leave, or are not secret', () => {
    const leaves = rsa(2048, 'a2', { [pkcs11.CKA_EXTRACTABLE]: true });
    const key = { ckaId: 'a2', algorithm: 'rsa-pkcs1-sha256', publicKeySpki: leaves } as const;
    expect(() => new TokenKey(token, key).prove()).toThrow(/must have CKA_EXTRACTABLE false/);
    const open = rsa(2048, 'a3', { [pkcs11.CKA_SENSITIVE]: false });
    expect(() => new TokenKey(token, { ...key, ckaId: 'a3', publicKeySpki: open }).prove()).toThrow(
      /CKA_SENSITIVE true/,
    );
    const wide = rsa(2048, 'a4', { [pkcs11.CKA_DECRYPT]: true });
    new TokenKey(token, { ...key, ckaId: 'a4', publicKeySpki: wide }).prove();
    expect(() => new TokenKey(token, { ...key, ckaId: 'a4', publicKeySpki: wide }).prove('all')).toThrow(
      /must have CKA_\w+ false/,
    );
  });

  it('are refused where the public half is another, even where the token does not show it', () => {
    const mine = generateKeyPair(token, { type: 'ec-p256', label: 'mine' });
    const other = generateKeyPair(token, { type: 'ec-p256', label: 'other' });
    const wrong = { ...mine, publicKeySpki: other.publicKeySpki };
    expect(() => new TokenKey(token, wrong).prove()).toThrow(/is another key/);
    const [object] = token.find([
      { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PUBLIC_KEY },
      { type: pkcs11.CKA_ID, value: Buffer.from(mine.ckaId, 'hex') },
    ]);
    token.module.C_DestroyObject(token.session, object as Buffer);
    new TokenKey(token, mine).prove();
    expect(() => new TokenKey(token, wrong).prove()).toThrow(/does not verify/);
  });

  it('are refused where none or several have the CKA_ID', () => {
    const key = generateKeyPair(token, { type: 'ec-p256', label: 'one' });
    expect(() => new TokenKey(token, { ...key, ckaId: 'ffff' })).toThrow(/has no private key/);
    rsa(2048, 'a5');
    rsa(2048, 'a5');
    expect(() => new TokenKey(token, { ...key, ckaId: 'a5' })).toThrow(/several private keys/);
  });
});

describe('public halves', () => {
  it('are read with and without the OCTET STRING that some tokens leave out', () => {
    for (const curve of Object.values(curves)) {
      const point = randomBytes(curve.pointBytes);
      const wrapped = Buffer.concat([Buffer.from([4, curve.pointBytes]), point]);
      expect(ecSpki(curve.parameters, point)).toEqual(curve.spki(point));
      expect(ecSpki(curve.parameters, wrapped)).toEqual(curve.spki(point));
      expect(ecSpki(curve.parameters, point.subarray(1))).toBeUndefined();
      expect(ecSpki(curve.parameters, Buffer.concat([wrapped, Buffer.from([0])]))).toBeUndefined();
    }
    const name = Buffer.concat([Buffer.from([0x13, 12]), Buffer.from('edwards25519')]);
    expect(ecSpki(name, randomBytes(32))).toBeDefined();
    expect(ecSpki(Buffer.from('06052b8104000a', 'hex'), randomBytes(65))).toBeUndefined();
  });

  it('of a point that only looks wrapped are taken as they are', () => {
    const point = Buffer.concat([Buffer.from([4, 65]), randomBytes(63)]);
    expect(ecSpki(curves['ec-p256'].parameters, point)).toEqual(curves['ec-p256'].spki(point));
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
