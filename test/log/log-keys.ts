import { generateKeyPairSync, type KeyObject, sign } from 'node:crypto';
import { assembleNote, checkpointBody, type LogKey, type LogKeyAlgorithm } from '../../src/log/note.ts';

/** A log key with its private half, in memory. */
export interface TestLogKey {
  key: LogKey;
  sign: (text: string) => Buffer;
}

/** A fresh log key. */
export function newLogKey(name: string, algorithm: LogKeyAlgorithm = 'ed25519'): TestLogKey {
  const pair: { publicKey: KeyObject; privateKey: KeyObject } =
    algorithm === 'ed25519'
      ? generateKeyPairSync('ed25519')
      : generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const digest = algorithm === 'ed25519' ? null : 'sha256';
  return {
    key: { name, algorithm, publicKeySpki: pair.publicKey.export({ format: 'der', type: 'spki' }) },
    sign: (text) => sign(digest, Buffer.from(text), pair.privateKey),
  };
}

/** A checkpoint signed by each of `keys`, whose first names the origin. */
export function signedCheckpoint(keys: readonly TestLogKey[], treeSize: number, rootHash: Buffer): string {
  const body = checkpointBody({ origin: keys[0]?.key.name ?? '', treeSize, rootHash });
  return signedNote(keys, body);
}

/** Any text signed by each of `keys`. */
export function signedNote(keys: readonly TestLogKey[], body: string): string {
  return assembleNote(
    body,
    keys.map(({ key, sign }) => ({ key, signature: sign(body) })),
  );
}
