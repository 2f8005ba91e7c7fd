import { createPublicKey, type KeyObject, randomBytes, verify } from 'node:crypto';
import { readFileSync } from 'node:fs';
import pkcs11 from 'pkcs11js';
import type { HsmConfig } from '../../src/signer/hsm.ts';

const p256 = Buffer.from('06082a8648ce3d030107', 'hex');
const spkiStart = Buffer.from('3059301306072a8648ce3d020106082a8648ce3d030107034200', 'hex');

/** A program that uses a token as PKCS#11 says, and no more: what the simulator does to it is seen as it is. */
export interface Client {
  module: pkcs11.PKCS11;
  slot: Buffer;
  session: Buffer;
  /** Opens another session and works with that. */
  reopen: () => void;
  login: (pin?: string) => void;
  /** Makes a P-256 key with this CKA_ID (hex). */
  makeKey: (ckaId: string) => KeyObject;
  /** The public half as the token shows it. */
  publicKey: (ckaId: string) => KeyObject;
  point: (ckaId: string) => Buffer;
  /** Signs 32 bytes with the key; r ‖ s. */
  sign: (ckaId: string, digest?: Buffer) => Buffer;
}

/** Loads the module for this process, opens a session and logs in. */
export function openClient(hsm: HsmConfig): Client {
  Object.assign(process.env, hsm.environment);
  const module = new pkcs11.PKCS11();
  module.load(hsm.module);
  first(() => module.C_Initialize({ flags: pkcs11.CKF_OS_LOCKING_OK }));
  const slot = findSlot(module, hsm.tokenLabel);
  const client: Client = {
    ...{ module, slot, session: openSession(module, slot) },
    reopen: () => {
      client.session = openSession(module, slot);
    },
    login: (pin = readFileSync(hsm.pinFile, 'utf8').trim()) => {
      module.C_Login(client.session, pkcs11.CKU_USER, pin);
    },
    makeKey: (ckaId) => makeKey(client, ckaId),
    publicKey: (ckaId) => importPoint(client.point(ckaId).subarray(-65)),
    point: (ckaId) => pointOf(client, ckaId),
    sign: (ckaId, digest = randomBytes(32)) => {
      const key = findKey(client, pkcs11.CKO_PRIVATE_KEY, ckaId);
      module.C_SignInit(client.session, { mechanism: pkcs11.CKM_ECDSA }, key);
      return module.C_Sign(client.session, digest, Buffer.alloc(128));
    },
  };
  first(() => client.login());
  return client;
}

/** What another thread of the process has done already is no error. */
function first(call: () => void): void {
  const result = outcome(call);
  if (!/^ok$|_ALREADY_(INITIALIZED|LOGGED_IN)$/.test(result)) throw new Error(result);
}

/** What came of a call: `ok`, or the name of the return value. */
export function outcome(call: () => unknown): string {
  try {
    call();
    return 'ok';
  } catch (error) {
    // Of some functions pkcs11js says `CKR_DEVICE_ERROR:48`.
    return (error as Error).message.replace(/:\d+$/, '');
  }
}

/** The slot with the token of that label, as a client finds it. */
export function findSlot(module: pkcs11.PKCS11, label: string): Buffer {
  const slot = module.C_GetSlotList(true).find((one) => module.C_GetTokenInfo(one).label.trim() === label);
  if (!slot) throw new Error('no such token');
  return slot;
}

export function openSession(module: pkcs11.PKCS11, slot: Buffer): Buffer {
  return module.C_OpenSession(slot, pkcs11.CKF_SERIAL_SESSION | pkcs11.CKF_RW_SESSION);
}

/** True if the raw signature over the SHA-256 digest of `data` verifies. */
export function verifies(key: KeyObject, data: Buffer, signature: Buffer): boolean {
  return verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, signature);
}

function findKey(client: Client, type: number, ckaId: string): Buffer {
  const { module, session } = client;
  module.C_FindObjectsInit(session, [
    { type: pkcs11.CKA_CLASS, value: type },
    { type: pkcs11.CKA_ID, value: Buffer.from(ckaId, 'hex') },
  ]);
  try {
    const [key] = module.C_FindObjects(session, 1);
    if (!key) throw new Error('no such key');
    return key;
  } finally {
    module.C_FindObjectsFinal(session);
  }
}

function pointOf(client: Client, ckaId: string): Buffer {
  const key = findKey(client, pkcs11.CKO_PUBLIC_KEY, ckaId);
  const [point] = client.module.C_GetAttributeValue(client.session, key, [{ type: pkcs11.CKA_EC_POINT }]);
  return (point as { value: Buffer }).value;
}

function makeKey(client: Client, ckaId: string): KeyObject {
  const id = { type: pkcs11.CKA_ID, value: Buffer.from(ckaId, 'hex') };
  const kept = { type: pkcs11.CKA_TOKEN, value: true };
  client.module.C_GenerateKeyPair(
    client.session,
    { mechanism: pkcs11.CKM_EC_KEY_PAIR_GEN },
    [kept, id, { type: pkcs11.CKA_EC_PARAMS, value: p256 }, { type: pkcs11.CKA_VERIFY, value: true }],
    [kept, id, { type: pkcs11.CKA_SIGN, value: true }, { type: pkcs11.CKA_PRIVATE, value: true }],
  );
  return client.publicKey(ckaId);
}

function importPoint(point: Buffer): KeyObject {
  return createPublicKey({ key: Buffer.concat([spkiStart, point]), format: 'der', type: 'spki' });
}
