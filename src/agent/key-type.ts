import { generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { KeyType } from '../x509/public-key.ts';

/** Keys of workloads that `--key-type` names, the default first. An RSA key has no scheme of its own here: TLS chooses. */
export const workloadKeyTypes = [
  'ec-p256',
  'ec-p384',
  'rsa-3072',
  'rsa-4096',
  'ed25519',
] as const satisfies KeyType[];

/** A fresh private key, made beside whatever else goes on: RSA takes seconds. */
export async function newWorkloadKey(type: KeyType): Promise<KeyObject> {
  const generate = promisify(generateKeyPair);
  if (type === 'ed25519') return (await generate('ed25519')).privateKey;
  if (type === 'ec-p256') return (await generate('ec', { namedCurve: 'P-256' })).privateKey;
  if (type === 'ec-p384') return (await generate('ec', { namedCurve: 'P-384' })).privateKey;
  return (await generate('rsa', { modulusLength: Number(type.slice('rsa-'.length)) })).privateKey;
}
