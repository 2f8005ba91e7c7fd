import { createECDH, type KeyObject, randomBytes } from 'node:crypto';
import { ecdsaDer } from '../../src/signer/pkcs11/signing.ts';

/** Order of P-256 (FIPS 186-5). */
const order = BigInt('0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551');

/** DER ECDSA signature of a P-256 key over a digest of 32 bytes, as a token makes it; node:crypto hashes first. */
export function signDigest(key: KeyObject, digest: Buffer): Buffer {
  const secret = numberOf(Buffer.from(String(key.export({ format: 'jwk' }).d), 'base64url'));
  const ecdh = createECDH('prime256v1');
  for (;;) {
    const nonce = randomBytes(32);
    const k = numberOf(nonce);
    if (k === 0n || k >= order) continue;
    ecdh.setPrivateKey(nonce);
    const r = numberOf(ecdh.getPublicKey().subarray(1, 33)) % order;
    const s = (inverse(k) * (numberOf(digest) + r * secret)) % order;
    if (r > 0n && s > 0n) return ecdsaDer(Buffer.concat([bytesOf(r), bytesOf(s)]), 32);
  }
}

/** By Fermat: the order is prime. */
function inverse(value: bigint): bigint {
  let result = 1n;
  for (let base = value, left = order - 2n; left > 0n; left >>= 1n, base = (base * base) % order)
    if (left & 1n) result = (result * base) % order;
  return result;
}

function numberOf(bytes: Buffer): bigint {
  return BigInt(`0x${bytes.toString('hex')}`);
}

function bytesOf(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex');
}
