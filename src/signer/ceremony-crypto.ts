import type { webcrypto } from 'node:crypto';
import { Crypto, CryptoKey } from '@peculiar/webcrypto';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import type { TokenKey } from './pkcs11/key.ts';
import { signingMethods } from './pkcs11/signing.ts';

/** What WebCrypto calls each algorithm, with all that it wants to know to import a key for it. */
export const webAlgorithms: Readonly<
  Record<SignatureAlgorithm, { name: string; namedCurve?: string; hash?: string }>
> = {
  'ecdsa-sha256': { name: 'ECDSA', namedCurve: 'P-256' },
  'ecdsa-sha384': { name: 'ECDSA', namedCurve: 'P-384' },
  'rsa-pkcs1-sha256': { name: 'RSASSA-PKCS1-v1_5', hash: 'SHA-256' },
  'rsa-pss-sha256': { name: 'RSA-PSS', hash: 'SHA-256' },
  ed25519: { name: 'Ed25519' },
};

/** A private key that stays in the token; to WebCrypto one that only signs. */
export class HsmCryptoKey extends CryptoKey {
  readonly tokenKey: TokenKey;

  constructor(tokenKey: TokenKey) {
    super();
    this.tokenKey = tokenKey;
    this.type = 'private';
    this.extractable = false;
    this.usages = ['sign'];
    this.algorithm = { name: webAlgorithms[tokenKey.key.algorithm].name };
  }
}

/** WebCrypto whose `sign` goes to the token for keys that are there; all else is done in software. */
export class HsmCrypto extends Crypto {
  declare readonly subtle: webcrypto.SubtleCrypto;

  constructor() {
    super();
    const subtle = this.subtle;
    const inSoftware = subtle.sign.bind(subtle);
    subtle.sign = async (...[algorithm, key, data]: Parameters<typeof inSoftware>): Promise<ArrayBuffer> => {
      if (!(key instanceof HsmCryptoKey)) return inSoftware(algorithm, key, data);
      const { tokenKey } = key;
      const input = signingMethods[tokenKey.key.algorithm].input(bytesOf(data));
      return new Uint8Array(tokenKey.signRaw(input)).buffer;
    };
  }

  /** Signature of a token's key over `data`: ECDSA as r ‖ s, as WebCrypto and JWS have it. */
  async signRaw(key: HsmCryptoKey, data: Buffer): Promise<Buffer> {
    return Buffer.from(await this.subtle.sign(webAlgorithms[key.tokenKey.key.algorithm], key, data));
  }
}

function bytesOf(data: ArrayBuffer | ArrayBufferView): Buffer {
  if (data instanceof ArrayBuffer) return Buffer.from(data);
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
