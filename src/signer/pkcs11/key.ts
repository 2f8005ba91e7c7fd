import { createPublicKey, type KeyObject } from 'node:crypto';
import pkcs11 from 'pkcs11js';
import { VouchError } from '../../core/errors.ts';
import { verifySignature } from '../../x509/algorithm.ts';
import { byLabel, type HsmKey } from '../hsm.ts';
import { ecSpki, privateKeyRules, rsaSpki } from './attributes.ts';
import { mechanisms, signatureMaxBytes, signingProblem } from './mechanisms.ts';
import { proofText, signingMethods } from './signing.ts';
import type { HsmToken } from './token.ts';

/** What must hold of an adopted key, too; a key made by Vouch obeys all of `privateKeyRules`. */
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
   * Proves at the start that this is the key it should be: the token has its mechanism, it cannot leave the token and
   * only signs, its public half is the expected one where the token shows it, a test signature verifies. Of an adopted
   * key only the `essential` attributes are asked. Throws `config-hsm`.
   */
  prove(rules: 'essential' | 'all' = 'all'): void {
    const { algorithm, publicKeySpki } = this.key;
    const publicKey = createPublicKey({ key: publicKeySpki, format: 'der', type: 'spki' });
    const problem = signingProblem(this.#token, algorithm, bitsOf(publicKey));
    if (problem !== undefined) refuse(this.key, `cannot sign by ${algorithm}: ${problem}`);
    this.#checkAttributes(rules);
    for (const spki of publicSpkis(this.#token, this.key.ckaId))
      if (!spki.equals(publicKeySpki))
        refuse(this.key, 'is another key: its public half is not the expected one');
    const text = proofText(publicKeySpki);
    const signature = this.signPrepared(signingMethods[algorithm].input(text));
    if (!verifySignature(algorithm, publicKey, text, signature))
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

/**
 * DER SubjectPublicKeyInfo of each public half that the token shows of a key: in public key objects of its CKA_ID, or of
 * its label where it has none, and in the private key itself. A token may show none, or none that Vouch can read.
 */
export function publicSpkis(token: HsmToken, ckaId: string): Buffer[] {
  const key = findOne(token, ckaId);
  const id = token.attribute(key, pkcs11.CKA_ID);
  const names = id && id.length > 0 ? [{ type: pkcs11.CKA_ID, value: id }] : namedBy(ckaId);
  const objects = token.find([{ type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PUBLIC_KEY }, ...names]);
  return [...objects, key].flatMap((object) => spkiOf(token, object) ?? []);
}

function spkiOf(token: HsmToken, object: pkcs11.Handle): Buffer | undefined {
  const parameters = token.attribute(object, pkcs11.CKA_EC_PARAMS);
  const point = token.attribute(object, pkcs11.CKA_EC_POINT);
  if (parameters?.length && point?.length) return ecSpki(parameters, point);
  const modulus = token.attribute(object, pkcs11.CKA_MODULUS);
  const exponent = token.attribute(object, pkcs11.CKA_PUBLIC_EXPONENT);
  return modulus?.length && exponent?.length ? rsaSpki(modulus, exponent) : undefined;
}

/** Private keys with that CKA_ID or label, as `HsmKey` names them, each with its public half where the token shows it. */
export function findPrivateKeys(
  token: HsmToken,
  address: { ckaId: string } | { label: string },
): { ckaId: string; publicKeySpki: Buffer | undefined }[] {
  const name = 'ckaId' in address ? address.ckaId : `${byLabel}${address.label}`;
  const found = token.find([{ type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY }, ...namedBy(name)]);
  return found.map((handle) => {
    const id = token.attribute(handle, pkcs11.CKA_ID);
    const ckaId = id && id.length > 0 ? id.toString('hex') : name;
    return { ckaId, publicKeySpki: found.length === 1 ? publicSpkis(token, ckaId)[0] : undefined };
  });
}

function findOne(token: HsmToken, ckaId: string): pkcs11.Handle {
  const [handle, ...more] = token.find([
    { type: pkcs11.CKA_CLASS, value: pkcs11.CKO_PRIVATE_KEY },
    ...namedBy(ckaId),
  ]);
  if (!handle) throw new VouchError('config-hsm', `the token has no private key with ${nameOf(ckaId)}`);
  if (more.length > 0)
    throw new VouchError('config-hsm', `the token has several private keys with ${nameOf(ckaId)}`);
  return handle;
}

/** The attribute that finds a key: a label only where it goes by no CKA_ID. */
function namedBy(ckaId: string): pkcs11.Template {
  if (!ckaId.startsWith(byLabel)) return [{ type: pkcs11.CKA_ID, value: Buffer.from(ckaId, 'hex') }];
  return [{ type: pkcs11.CKA_LABEL, value: ckaId.slice(byLabel.length) }];
}

function nameOf(ckaId: string): string {
  return ckaId.startsWith(byLabel) ? `label ${ckaId.slice(byLabel.length)}` : `CKA_ID ${ckaId}`;
}

function bitsOf(key: KeyObject): number {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  return modulusLength ?? (namedCurve === 'secp384r1' ? 384 : namedCurve === 'prime256v1' ? 256 : 255);
}

function refuse(key: HsmKey, why: string): never {
  throw new VouchError('config-hsm', `the token's key with ${nameOf(key.ckaId)} ${why}`);
}
