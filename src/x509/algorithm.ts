import { constants, createVerify, type KeyObject, verify } from 'node:crypto';
import { once } from 'node:events';
import { setImmediate as aTurn } from 'node:timers/promises';
import { VouchError } from '../core/errors.ts';
import { explicit, integer, nullValue, oid, sequence } from './der.ts';
import { oids } from './oids.ts';

/** The signature algorithms Vouch makes and accepts; there is no SHA-1, no MD5 and no DSA to fall back to. */
export type SignatureAlgorithm =
  | 'ecdsa-sha256'
  | 'ecdsa-sha384'
  | 'rsa-pkcs1-sha256'
  | 'rsa-pss-sha256'
  | 'ed25519';

const sha256Identifier = sequence(oid(oids.sha256), nullValue);

/** RFC 4055 §3.1: SHA-256, MGF1 with SHA-256, salt of 32 bytes, trailer by default. */
const pssParameters = sequence(
  explicit(0, sha256Identifier),
  explicit(1, sequence(oid(oids.mgf1), sha256Identifier)),
  explicit(2, integer(32n)),
);

/** RFC 5758 §3.2 (no parameters), RFC 4055 §5 (NULL), RFC 8410 §3 (no parameters). */
const identifiers = {
  'ecdsa-sha256': sequence(oid(oids.ecdsaWithSha256)),
  'ecdsa-sha384': sequence(oid(oids.ecdsaWithSha384)),
  'rsa-pkcs1-sha256': sequence(oid(oids.sha256WithRsa), nullValue),
  'rsa-pss-sha256': sequence(oid(oids.rsaPss), pssParameters),
  ed25519: sequence(oid(oids.ed25519)),
} as const satisfies Record<SignatureAlgorithm, Buffer>;

const algorithmOfIdentifier = new Map(
  (Object.keys(identifiers) as SignatureAlgorithm[]).map((name) => [
    identifiers[name].toString('latin1'),
    name,
  ]),
);

/** DER AlgorithmIdentifier. */
export function algorithmIdentifier(algorithm: SignatureAlgorithm): Buffer {
  return identifiers[algorithm];
}

/** The algorithm of a DER AlgorithmIdentifier, compared byte for byte. Throws `request-malformed` for any other. */
export function parseAlgorithmIdentifier(der: Buffer): SignatureAlgorithm {
  const found = algorithmOfIdentifier.get(der.toString('latin1'));
  if (found) return found;
  throw new VouchError(
    'request-malformed',
    `signature algorithm not accepted; use one of ${Object.keys(identifiers).join(', ')}`,
  );
}

/**
 * Whether `signature`, as it stands in a BIT STRING (ECDSA: DER), is this key's over `data`. False, never a throw,
 * for a key of another type or a malformed signature.
 */
export function verifySignature(
  algorithm: SignatureAlgorithm,
  key: KeyObject,
  data: Buffer,
  signature: Buffer,
): boolean {
  if (!isOfType(key, algorithm)) return false;
  try {
    return verify(digestOf[algorithm], data, verifyingKey(key, algorithm), signature);
  } catch {
    return false;
  }
}

/** The same in another thread, where a signature may take as long as it takes. */
export function verifySignatureAside(
  algorithm: SignatureAlgorithm,
  key: KeyObject,
  data: Buffer,
  signature: Buffer,
): Promise<boolean> {
  if (!isOfType(key, algorithm)) return Promise.resolve(false);
  const { promise, resolve } = Promise.withResolvers<boolean>();
  const done = (error: Error | null, isGood: boolean): void => resolve(error === null && isGood);
  try {
    verify(digestOf[algorithm], data, verifyingKey(key, algorithm), signature, done);
  } catch {
    resolve(false);
  }
  return promise;
}

/**
 * The same over the bytes of chunks, one behind the other, with turns of the event loop between; Ed25519, which takes
 * them twice, in another thread.
 */
export async function verifySignatureOfChunks(
  algorithm: SignatureAlgorithm,
  key: KeyObject,
  chunks: Iterable<Buffer>,
  signature: Buffer,
): Promise<boolean> {
  if (!isOfType(key, algorithm)) return false;
  const digest = digestOf[algorithm];
  if (digest === null) return verifyEd25519([...chunks], key, signature);
  const verifier = createVerify(digest);
  for await (const slice of slicesOf(chunks)) verifier.update(slice);
  try {
    return verifier.verify(verifyingKey(key, algorithm), signature);
  } catch {
    return false;
  }
}

/**
 * What an authority with a key of this type may sign with, the usual one first: each curve has its hash, RSA has two
 * schemes. `type` as in `PublicKeyInfo`.
 */
export function algorithmsOf(type: string): readonly [SignatureAlgorithm, ...SignatureAlgorithm[]] {
  if (type === 'ed25519') return ['ed25519'];
  if (type === 'ec-p384') return ['ecdsa-sha384'];
  return type.startsWith('rsa-') ? ['rsa-pkcs1-sha256', 'rsa-pss-sha256'] : ['ecdsa-sha256'];
}

/** What a workload's key, EC, RSA or Ed25519, signs CSR and binding by: RSA by PKCS#1 v1.5. */
export function algorithmFor(key: KeyObject): SignatureAlgorithm {
  if (key.asymmetricKeyType !== 'ec')
    return key.asymmetricKeyType === 'ed25519' ? 'ed25519' : 'rsa-pkcs1-sha256';
  return key.asymmetricKeyDetails?.namedCurve === 'secp384r1' ? 'ecdsa-sha384' : 'ecdsa-sha256';
}

/** The digest that `node:crypto` takes for this algorithm; null where the algorithm has its own (Ed25519). */
export const digestOf = {
  'ecdsa-sha256': 'sha256',
  'ecdsa-sha384': 'sha384',
  'rsa-pkcs1-sha256': 'sha256',
  'rsa-pss-sha256': 'sha256',
  ed25519: null,
} as const satisfies Record<SignatureAlgorithm, string | null>;

const keyTypeOf = {
  'ecdsa-sha256': 'ec',
  'ecdsa-sha384': 'ec',
  'rsa-pkcs1-sha256': 'rsa',
  'rsa-pss-sha256': 'rsa',
  ed25519: 'ed25519',
} as const satisfies Record<SignatureAlgorithm, string>;

/** Of so many bytes it takes a few milliseconds. */
const ed25519AtOnceBytes = 1024 * 1024;

/** `node:crypto` copies what it is given to verify in another thread, in one go; shared memory it leaves where it is. */
async function verifyEd25519(chunks: readonly Buffer[], key: KeyObject, signature: Buffer): Promise<boolean> {
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0);
  const data = Buffer.from(new SharedArrayBuffer(length));
  let at = 0;
  for await (const slice of slicesOf(chunks)) at += slice.copy(data, at);
  if (length <= ed25519AtOnceBytes) return verifySignature('ed25519', key, data, signature);
  // Loaded where it is needed: it is a hundredth of an agent's start.
  const { Worker } = process.getBuiltinModule('node:worker_threads');
  const worker = new Worker(verifyEd25519Program, { eval: true, workerData: { data, key, signature } });
  try {
    const [isGood] = (await once(worker, 'message')) as [unknown];
    return isGood === true;
  } catch {
    // There is no thread to be had.
    return verifySignature('ed25519', key, data, signature);
  }
}

const verifyEd25519Program = `
const { parentPort, workerData: { data, key, signature } } = require('node:worker_threads');
parentPort.postMessage(require('node:crypto').verify(null, data, key, signature));`;

/** A slice is hashed or copied in a fraction of a millisecond. */
const sliceBytes = 256 * 1024;
/** For so long it goes on in one turn. */
const turnMs = 4;

/** Chunks cut to slices, a turn of the event loop after each few milliseconds of what is done with them. */
async function* slicesOf(chunks: Iterable<Buffer>): AsyncGenerator<Buffer> {
  let sinceMs = performance.now();
  for (const chunk of chunks)
    for (let at = 0; at < chunk.length; at += sliceBytes) {
      yield chunk.subarray(at, at + sliceBytes);
      if (performance.now() - sinceMs < turnMs) continue;
      await aTurn();
      sinceMs = performance.now();
    }
}

function isOfType(key: KeyObject, algorithm: SignatureAlgorithm): boolean {
  return key.type === 'public' && key.asymmetricKeyType === keyTypeOf[algorithm];
}

function verifyingKey(key: KeyObject, algorithm: SignatureAlgorithm) {
  if (algorithm !== 'rsa-pss-sha256') return key;
  return { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 };
}
