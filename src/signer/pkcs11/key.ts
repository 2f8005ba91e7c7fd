import { createPublicKey, randomBytes } from 'node:crypto';
import pkcs11 from 'pkcs11js';
import { VouchError } from '../../core/errors.ts';
import { verifySignature } from '../../x509/algorithm.ts';
import type { HsmKey } from '../hsm.ts';
import { ecSpki, privateKeyRules, rsaSpki } from './attributes.ts';
import { mechanisms, signatureMaxBytes } from './mechanisms.ts';
import { signingMethods } from './signing.ts';
import type { HsmToken } from './token.ts';

/** What must hold of any signing key; a key made by Vouch obeys all of `privateKeyRules`. */
const essentialRules = new Set(['CKA_SENSITIVE', 'CKA_EXTRACTABLE', 'CKA_SIGN']);

/** A private key in one session of the token. */
export class TokenKey {
  readonly key: HsmKey;
  readonly #token: HsmToken;
  #handle: pkcs11.Handle;

  constructor(token: HsmToken, key: HsmKey) {
    this.key = key;
    this.#token = token;
    this.#handle = findOne(token, key.ckaId);
  }

  /** Looks it up again after the session was renewed. */
  refind(): void {
    this.#handle = findOne(this.#token, this.key.ckaId);
  }

  /** Signs what `signingMethods` prepared; returns the signature as it stands in a BIT STRING. */
  signPrepared(input: Buffer): Buffer {
    return signingMethods[this.key.algorithm].output(this.signRaw(input));
  }

  /** The same, as the token returns it (ECDSA: r ‖ s). */
  signRaw(input: Buffer): Buffer {
    const { module, session } = this.#token;
    module.C_SignInit(session, mechanisms[this.key.algorithm], this.#handle);
    return module.C_Sign(session, input, Buffer.alloc(signatureMaxBytes));
  }

  /**
   * Proves at the start that this is the key it should be: its public half is the expected one, a test signature
   * verifies, it cannot leave the token. Throws `config-hsm`.
   */
  prove(rules: 'essential' | 'all' = 'essential'): void {
    this.#checkAttributes(rules);
    const spki = publicSpki(this.#token, this.key.ckaId);
    if (spki && !spki.equals(this.key.publicKeySpki))
      refuse(this.key, 'is another key: its public half is not the expected one');
    // The text is none that a certificate, CRL or checkpoint could be.
    const text = Buffer.concat([Buffer.from('vouch start-up proof\n'), randomBytes(32)]);
    const signature = this.signPrepared(signingMethods[this.key.algorithm].input(text));
    const publicKey = createPublicKey({ key: this.key.publicKeySpki, format: 'der', type: 'spki' });
    if (!verifySignature(this.key.algorithm, publicKey, text, signature))
      refuse(this.key, 'made a test signature that does not verify');
  }

  #checkAttributes(rules: 'essential' | 'all'): void {
    for (const { name, type, value } of privateKeyRules) {
      if (rules === 'essential' && !essentialRules.has(name)) continue;
      const found = this.#token.attribute(this.#handle, type);
      // A token that does not know a usage cannot allow it.
      if (found === undefined && !essentialRules.has(name)) continue;
      if (found === undefined || (found[0] === 1) !== value) refuse(this.key, `must have ${name} ${value}`);
    }
  }
}

/** DER SubjectPublicKeyInfo of the public key object with that CKA_ID; undefined where the token keeps none. */
export function publicSpki(token: HsmToken, ckaId: string): Buffer | undefined {
  const [object] = token.find([
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PUBLIC_KEY },
    { type: pkcs11.CKA_ID, value: Buffer.from(ckaId, 'hex') },
  ]);
  if (!object) return undefined;
  const parameters = token.attribute(object, pkcs11.CKA_EC_PARAMS);
  const point = token.attribute(object, pkcs11.CKA_EC_POINT);
  if (parameters && point) return ecSpki(parameters, point);
  const modulus = token.attribute(object, pkcs11.CKA_MODULUS);
  const exponent = token.attribute(object, pkcs11.CKA_PUBLIC_EXPONENT);
  return modulus && exponent && rsaSpki(modulus, exponent);
}

function findOne(token: HsmToken, ckaId: string): pkcs11.Handle {
  const [handle, ...more] = token.find([
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
    { type: pkcs11.CKA_ID, value: Buffer.from(ckaId, 'hex') },
  ]);
  if (!handle) throw new VouchError('config-hsm', `the token has no private key with CKA_ID ${ckaId}`);
  if (more.length > 0)
    throw new VouchError('config-hsm', `the token has several private keys with CKA_ID ${ckaId}`);
  return handle;
}

function refuse(key: HsmKey, why: string): never {
  throw new VouchError('config-hsm', `the token's key with CKA_ID ${key.ckaId} ${why}`);
}
