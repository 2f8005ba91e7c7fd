import { hash, type KeyObject, randomBytes } from 'node:crypto';
import { chmodSync, statSync } from 'node:fs';
import pkcs11 from 'pkcs11js';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type LoggedSignature, simulatedToken } from '../support/hsm-sim.ts';
import { childClient } from './child-client.ts';
import { type Client, openClient, outcome, verifies } from './client.ts';

const token = simulatedToken();
let client: Client;
let keys: Record<string, KeyObject>;
const data = randomBytes(100);
const digest = hash('sha256', data, 'buffer');

beforeAll(() => {
  client = openClient(token.hsm);
  keys = { '01': client.makeKey('01') };
});

afterEach(() => token.calm());

function lastLogged(count: number): LoggedSignature[] {
  return token.signatures().slice(-count);
}

const bits = (one: Buffer, other: Buffer) =>
  one.reduce(
    (sum, byte, at) => sum + (byte ^ (other[at] as number)).toString(2).replaceAll('0', '').length,
    0,
  );

describe('the log', () => {
  it('holds what was signed, by which key, and the signature that was given out', () => {
    const signature = client.sign('01', digest);
    const [logged] = lastLogged(1);
    expect(logged).toEqual({
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as unknown,
      ...{ pid: process.pid, function: 'C_Sign', ckaId: '01', mechanism: 'CKM_ECDSA', rv: 'CKR_OK' },
      ...{ data: digest.toString('hex'), signature: signature.toString('hex') },
    });
    expect(verifies(keys['01'] as KeyObject, data, signature)).toBe(true);
  });

  it('holds a signature in parts as one, over all parts', () => {
    const { module, session } = client;
    const { privateKey, publicKey } = module.C_GenerateKeyPair(
      session,
      { mechanism: pkcs11.CKM_RSA_PKCS_KEY_PAIR_GEN },
      [
        { type: pkcs11.CKA_MODULUS_BITS, value: 2048 },
        { type: pkcs11.CKA_PUBLIC_EXPONENT, value: Buffer.from([1, 0, 1]) },
      ],
      [{ type: pkcs11.CKA_SIGN, value: true }],
    );
    module.C_SignInit(session, { mechanism: pkcs11.CKM_SHA256_RSA_PKCS }, privateKey);
    module.C_SignUpdate(session, data.subarray(0, 30));
    module.C_SignUpdate(session, data.subarray(30));
    const signature = module.C_SignFinal(session, Buffer.alloc(256));
    const [logged] = lastLogged(1);
    expect(logged).toMatchObject({ function: 'C_SignFinal', data: data.toString('hex') });
    expect(logged?.signature).toBe(signature.toString('hex'));
    module.C_VerifyInit(session, { mechanism: pkcs11.CKM_SHA256_RSA_PKCS }, publicKey);
    expect(module.C_Verify(session, data, signature)).toBe(true);
  });

  it('holds nothing where nothing was signed', () => {
    const before = token.signatures().length;
    token.control([{ on: 'C_Sign', do: { error: 'CKR_DEVICE_ERROR' }, nth: 1 }]);
    expect(outcome(() => client.sign('01'))).toBe('CKR_DEVICE_ERROR');
    expect(token.signatures()).toHaveLength(before);
    client.sign('01');
    expect(token.signatures()).toHaveLength(before + 1);
  });

  it('holds the refusal of the token itself', () => {
    expect(outcome(() => client.sign('01', Buffer.alloc(0)))).toBe('CKR_ARGUMENTS_BAD');
    expect(lastLogged(1)[0]).toMatchObject({ rv: 'CKR_ARGUMENTS_BAD', ckaId: '01', signature: '' });
    // It did not end the operation, whose signature the log has to hold, too.
    const signature = client.module.C_Sign(client.session, digest, Buffer.alloc(128));
    expect(lastLogged(1)[0]).toMatchObject({
      ...{ rv: 'CKR_OK', ckaId: '01' },
      signature: signature.toString('hex'),
    });
  });

  it('is for its owner only', () => {
    expect(statSync(token.hsm.environment.HSM_SIM_LOG as string).mode & 0o777).toBe(0o600);
    chmodSync(token.hsm.environment.HSM_SIM_LOG as string, 0o600);
  });

  it('is written before the caller gets the signature, even if it never does', async () => {
    token.control([{ on: 'C_Sign', do: { crash: 'segv' }, when: 'after', nth: 2 }]);
    const before = token.signatures().length;
    const child = childClient(token.hsm, '01', 5);
    expect(await child.ended).toBe('SIGSEGV');
    expect(child.lines()).toEqual(['open', 'ok']);
    const logged = token.signatures().slice(before);
    expect(logged.map(({ pid, rv }) => ({ pid, rv }))).toEqual(
      Array(2).fill({ pid: child.child.pid, rv: 'CKR_OK' }),
    );
  });
});

describe('a signature with a flipped bit', () => {
  it('differs in one bit from the true one, which the log has', () => {
    token.control([{ on: 'C_Sign', do: 'flip' }]);
    const given = client.sign('01', digest);
    const [logged] = lastLogged(1);
    const made = Buffer.from(logged?.signature ?? '', 'hex');
    expect(logged?.fault).toBe('flip');
    expect(bits(given, made)).toBe(1);
    expect(verifies(keys['01'] as KeyObject, data, given)).toBe(false);
    expect(verifies(keys['01'] as KeyObject, data, made)).toBe(true);
  });
});

describe('a signature of another key', () => {
  it('is by a key made for it where the token has only one, and the log has both', () => {
    token.control([{ on: 'C_Sign', do: 'other-key' }]);
    const given = client.sign('01', digest);
    expect(given).toHaveLength(64);
    expect(verifies(keys['01'] as KeyObject, data, given)).toBe(false);
    const [own, other] = lastLogged(2);
    expect(own).toMatchObject({ ckaId: '01', fault: 'other-key' });
    expect(verifies(keys['01'] as KeyObject, data, Buffer.from(own?.signature ?? '', 'hex'))).toBe(true);
    expect(other).toMatchObject({ ckaId: '', fault: 'other-key', signature: given.toString('hex') });
  });

  it('is by another key of the same curve where the token has one', () => {
    keys['02'] = client.makeKey('02');
    token.control([{ on: 'C_Sign', do: 'other-key' }]);
    const given = client.sign('01', digest);
    expect(verifies(keys['01'] as KeyObject, data, given)).toBe(false);
    expect(verifies(keys['02'], data, given)).toBe(true);
    expect(lastLogged(1)[0]).toMatchObject({ ckaId: '02', signature: given.toString('hex') });
  });
});
