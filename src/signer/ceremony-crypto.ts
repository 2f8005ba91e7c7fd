import type { webcrypto } from 'node:crypto';
import { Crypto, CryptoKey } from '@peculiar/webcrypto';
import type { TokenKey } from './pkcs11/key.ts';
import { signingMethods } from './pkcs11/signing.ts';

/** A private key that stays in the token; to WebCrypto an ECDSA key that only signs. */
export class HsmCryptoKey extends CryptoKey {
  readonly tokenKey: TokenKey;

  constructor(tokenKey: TokenKey) {
    super();
    this.tokenKey = tokenKey;
    this.type = 'private';
    this.extractable = false;
    this.usages = ['sign'];
    this.algorithm = { name: 'ECDSA' };
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
    return Buffer.from(await this.subtle.sign('ECDSA', key, data));
  }
}

function bytesOf(data: ArrayBuffer | ArrayBufferView): Buffer {
  if (data instanceof ArrayBuffer) return Buffer.from(data);
  return Buffer.from(data.buffer, data.byteOffset, data.byteLength);
}
