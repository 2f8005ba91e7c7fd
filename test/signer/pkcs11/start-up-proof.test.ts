import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import pkcs11 from 'pkcs11js';
import { beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { HsmKey } from '../../../src/signer/hsm.ts';
import { curves, ecSpki, edwardsParameters, privateKeyRules } from '../../../src/signer/pkcs11/attributes.ts';
import { publicSpkis, TokenKey } from '../../../src/signer/pkcs11/key.ts';
import { generateKeyPair } from '../../../src/signer/pkcs11/key-pair.ts';
import { HsmToken } from '../../../src/signer/pkcs11/token.ts';
import { importPublicKey } from '../../../src/x509/public-key.ts';
import { newTestToken, temporaryFolder } from '../../support/hsm.ts';

let token: HsmToken;

beforeAll(() => {
  const { hsm } = newTestToken('proof');
  Object.assign(process.env, hsm.environment);
  token = HsmToken.open(hsm, { readWrite: true });
  token.login(hsm.pinFile, join(temporaryFolder('refused'), 'pin-refused'));
});

/** What names a key pair in the token; either may be missing. */
interface Names {
  id?: Buffer;
  label?: string;
}

/** Makes an RSA key pair that obeys every rule save for what is overridden. */
function rsaPair({ id, label }: Names, overrides: Record<number, boolean> = {}): void {
  const names: pkcs11.Template = [
    ...(id ? [{ type: pkcs11.CKA_ID, value: id }] : []),
    ...(label === undefined ? [] : [{ type: pkcs11.CKA_LABEL, value: label }]),
  ];
  const rules = Object.fromEntries(privateKeyRules.map(({ type, value }) => [type, value]));
  const attributes: Record<string, boolean> = { [pkcs11.CKA_TOKEN]: true, ...rules, ...overrides };
  token.module.C_GenerateKeyPair(
    token.session,
    { mechanism: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN },
    [
      ...names,
      { type: pkcs11.CKA_TOKEN, value: true },
      { type: pkcs11.CKA_MODULUS_BITS, value: 2048 },
      { type: pkcs11.CKA_PUBLIC_EXPONENT, value: Buffer.from([1, 0, 1]) },
    ],
    [...names, ...Object.entries(attributes).map(([type, value]) => ({ type: Number(type), value }))],
  );
}

/** The same as a key that is expected. */
function rsaKey(overrides: Record<number, boolean> = {}): HsmKey {
  const id = randomBytes(8);
  rsaPair({ id }, overrides);
  const ckaId = id.toString('hex');
  const [publicKeySpki] = publicSpkis(token, ckaId);
  if (!publicKeySpki) throw new Error('public half');
  return { ckaId, algorithm: 'rsa-pkcs1-sha256', publicKeySpki };
}

const prove = (key: HsmKey, rules?: 'essential') => () => new TokenKey(token, key).prove(rules);

function destroyPublicHalf({ ckaId }: HsmKey): void {
  const [object] = token.find([
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PUBLIC_KEY },
    { type: pkcs11.CKA_ID, value: Buffer.from(ckaId, 'hex') },
  ]);
  token.module.C_DestroyObject(token.session, object as Buffer);
}

describe('what a key may do', () => {
  it('is proven for RSA by PKCS#1 v1.5 and by PSS', () => {
    const key = rsaKey();
    prove(key)();
    prove({ ...key, algorithm: 'rsa-pss-sha256' })();
    expect(importPublicKey(key.publicKeySpki).type).toBe('rsa-2048');
  });

  it.each([
    ['EXTRACTABLE', true],
    ['SENSITIVE', false],
  ] as const)('is refused where CKA_%s is %s, of an adopted key as well', (name, value) => {
    const key = rsaKey({ [pkcs11[`CKA_${name}`]]: value });
    const why = new RegExp(`with CKA_ID ${key.ckaId} must have CKA_${name} ${String(!value)}`);
    expect(prove(key)).toThrow(why);
    expect(prove(key, 'essential')).toThrow(why);
  });

  it.each(['SIGN_RECOVER', 'DECRYPT', 'UNWRAP', 'DERIVE'] as const)(
    'is refused of our own keys where CKA_%s is true, and borne of an adopted one',
    (name) => {
      const key = rsaKey({ [pkcs11[`CKA_${name}`]]: true });
      expect(prove(key)).toThrow(`must have CKA_${name} false`);
      prove(key, 'essential')();
    },
  );

  it('is refused where the key may not sign, or others than its user see it', () => {
    expect(prove(rsaKey({ [pkcs11.CKA_SIGN]: false }))).toThrow(/must have CKA_SIGN true/);
    expect(prove(rsaKey({ [pkcs11.CKA_PRIVATE]: false }))).toThrow(/must have CKA_PRIVATE true/);
  });

  it('is looked at anew: a right that was added since is seen', () => {
    const key = rsaKey();
    prove(key)();
    const [handle] = token.find([
      { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
      { type: pkcs11.CKA_ID, value: Buffer.from(key.ckaId, 'hex') },
    ]);
    token.module.C_SetAttributeValue(token.session, handle as Buffer, [
      { type: pkcs11.CKA_DECRYPT, value: true },
    ]);
    expect(prove(key)).toThrow(/must have CKA_DECRYPT false/);
  });
});

describe('who a key is', () => {
  it('is refused where its public half is another, even where the token does not show it', () => {
    const [mine, other] = ['mine', 'other'].map((label) =>
      generateKeyPair(token, { type: 'ec-p256', label }),
    );
    const wrong = { ...(mine as HsmKey), publicKeySpki: (other as HsmKey).publicKeySpki };
    expect(prove(wrong)).toThrow(/is another key/);
    destroyPublicHalf(wrong);
    prove(mine as HsmKey)();
    expect(prove(wrong)).toThrow(/does not verify/);
  });

  it('is compared for RSA by the modulus in the private key where there is no public object', () => {
    const key = rsaKey();
    const wrong = { ...key, publicKeySpki: rsaKey().publicKeySpki };
    destroyPublicHalf(key);
    prove(key)();
    expect(prove(wrong)).toThrow(/is another key/);
  });

  it('is refused where a second public key goes by the same CKA_ID', () => {
    const key = rsaKey();
    rsaPair({ id: Buffer.from(key.ckaId, 'hex') });
    const [, second] = token.find([
      { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
      { type: pkcs11.CKA_ID, value: Buffer.from(key.ckaId, 'hex') },
    ]);
    expect(prove(key)).toThrow(`several private keys with CKA_ID ${key.ckaId}`);
    token.module.C_DestroyObject(token.session, second as Buffer);
    expect(prove(key)).toThrow(/is another key/);
  });

  it('is refused where another private key stands under its CKA_ID', () => {
    const key = rsaKey();
    const id = Buffer.from(key.ckaId, 'hex');
    for (const object of token.find([{ type: pkcs11.CKA_ID, value: id }]))
      token.module.C_DestroyObject(token.session, object);
    expect(prove(key)).toThrow(`has no private key with CKA_ID ${key.ckaId}`);
    rsaPair({ id });
    expect(prove(key)).toThrow(/is another key/);
  });

  it('is found by its label where nothing else names it, and by a label of its own alone', () => {
    const label = 'corporate root';
    const ckaId = `label:${label}`;
    rsaPair({ label });
    const [publicKeySpki = Buffer.alloc(0)] = publicSpkis(token, ckaId);
    const key: HsmKey = { ckaId, algorithm: 'rsa-pss-sha256', publicKeySpki };
    prove(key)();
    expect(prove({ ...key, ckaId: 'label:corporate' })).toThrow(/no private key with label corporate$/);
    expect(prove({ ...key, publicKeySpki: rsaKey().publicKeySpki })).toThrow(
      /key with label corporate root is another key/,
    );
    rsaPair({ label });
    expect(prove(key)).toThrow(/several private keys with label corporate root/);
  });

  it('is taken with a label from the public half of its CKA_ID, whatever else bears the label', () => {
    const label = 'shared name';
    const id = randomBytes(8);
    rsaPair({ id, label });
    const [publicKeySpki = Buffer.alloc(0), ...more] = publicSpkis(token, `label:${label}`);
    for (const spki of more) expect(spki).toEqual(publicKeySpki);
    expect(publicSpkis(token, id.toString('hex'))[0]).toEqual(publicKeySpki);
    prove({ ckaId: `label:${label}`, algorithm: 'rsa-pkcs1-sha256', publicKeySpki })();
  });
});

describe('what a token can', () => {
  /** The token with another opinion of its mechanisms. */
  function saying(change: Partial<Pick<HsmToken, 'mechanisms' | 'mechanismInfo'>>): void {
    const own = { mechanisms: token.mechanisms, mechanismInfo: token.mechanismInfo };
    onTestFinished(() => void Object.assign(token, own));
    Object.assign(token, change);
  }

  it('is refused by the name of the mechanism that is not there', () => {
    const key = rsaKey();
    const all = token.mechanisms();
    saying({ mechanisms: () => all.filter((one) => one !== pkcs11.CKM_RSA_PKCS_PSS) });
    prove(key)();
    expect(prove({ ...key, algorithm: 'rsa-pss-sha256' })).toThrow(
      `with CKA_ID ${key.ckaId} cannot sign by rsa-pss-sha256: it has no CKM_RSA_PKCS_PSS`,
    );
  });

  it('is refused where it says that its mechanism takes other sizes, or does not sign', () => {
    const key = rsaKey();
    saying({ mechanismInfo: () => ({ minKeySize: 3072, maxKeySize: 4096, flags: pkcs11.CKF_SIGN }) });
    expect(prove(key)).toThrow('its CKM_RSA_PKCS takes keys of 3072 to 4096 bits, not 2048');
    saying({ mechanismInfo: () => ({ minKeySize: 1024, maxKeySize: 4096, flags: pkcs11.CKF_VERIFY }) });
    expect(prove(key)).toThrow('its CKM_RSA_PKCS is for another use');
    expect(() => generateKeyPair(token, { type: 'rsa-4096', label: 'never' })).toThrow(
      /proof makes no rsa-4096 key: its CKM_RSA_PKCS_KEY_PAIR_GEN is for another use; it makes no key/,
    );
  });

  it('is left to the test signature where it says nothing of its sizes', () => {
    const key = rsaKey();
    for (const info of [undefined, { minKeySize: 0, maxKeySize: 0, flags: 0 }]) {
      saying({ mechanismInfo: () => info });
      prove(key)();
    }
  });

  it('takes each name of Ed25519 that tokens use, and no other error for one', () => {
    const { C_GenerateKeyPair } = token.module;
    onTestFinished(() => void Object.assign(token.module, { C_GenerateKeyPair }));
    const tried: string[] = [];
    const knowing = (known: Buffer | undefined, error: string): void => {
      tried.length = 0;
      Object.assign(token.module, {
        C_GenerateKeyPair: (...args: Parameters<typeof C_GenerateKeyPair>) => {
          const given = args[2].find(({ type }) => type === pkcs11.CKA_EC_PARAMS)?.value as Buffer;
          tried.push(given.toString('hex'));
          if (known === undefined || !given.equals(known)) throw new Error(error);
          return C_GenerateKeyPair.apply(token.module, args);
        },
      });
    };
    const make = () => generateKeyPair(token, { type: 'ed25519', label: 'named' });
    knowing(edwardsParameters[1], 'CKR_CURVE_NOT_SUPPORTED');
    expect(importPublicKey(make().publicKeySpki).type).toBe('ed25519');
    expect(tried).toEqual(edwardsParameters.slice(0, 2).map((name) => name.toString('hex')));
    knowing(undefined, 'CKR_CURVE_NOT_SUPPORTED');
    expect(make).toThrow(/C_GenerateKeyPair failed: CKR_CURVE_NOT_SUPPORTED/);
    expect(tried).toHaveLength(3);
    knowing(undefined, 'CKR_DEVICE_MEMORY');
    expect(make).toThrow(/CKR_DEVICE_MEMORY/);
    expect(tried).toHaveLength(1);
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
    expect(ecSpki(Buffer.from('06052b8104000a', 'hex'), randomBytes(65))).toBeUndefined();
  });

  it('of Ed25519 are read under each name that tokens give its curve', () => {
    const point = randomBytes(32);
    expect(edwardsParameters.map((name) => name.toString('hex'))).toEqual([
      '06032b6570',
      `130c${Buffer.from('edwards25519').toString('hex')}`,
      '06092b06010401da470f01',
    ]);
    for (const name of edwardsParameters) expect(ecSpki(name, point)).toEqual(curves.ed25519.spki(point));
    const name448 = Buffer.concat([Buffer.from([0x13, 10]), Buffer.from('edwards448')]);
    expect(ecSpki(name448, point)).toBeUndefined();
    expect(ecSpki(edwardsParameters[1] as Buffer, randomBytes(57))).toBeUndefined();
  });

  it('of a point that only looks wrapped are taken as they are', () => {
    const point = Buffer.concat([Buffer.from([4, 65]), randomBytes(63)]);
    expect(ecSpki(curves['ec-p256'].parameters, point)).toEqual(curves['ec-p256'].spki(point));
  });
});
