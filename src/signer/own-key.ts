import { join } from 'node:path';
import { writeAtomically } from './atomic-file.ts';
import { encodeAuthority, readAuthority } from './authority-file.ts';
import type { HsmKey } from './hsm.ts';
import { jwtMaxSeconds } from './jwt-policy.ts';
import { generateKeyPair } from './pkcs11/key-pair.ts';
import { HsmToken } from './pkcs11/token.ts';
import { refusedPinFile } from './refused-pin.ts';
import { type SignerConfig, signerFolder } from './runtime.ts';

/** Keys beside the issuer's that need no ceremony, each for one thing only, by what is said of them. */
export const ownKeys = {
  'make-ocsp-key': { label: 'vouch-ocsp', does: 'answers OCSP' },
  'make-jwt-key': { label: 'vouch-jwt', does: 'signs JWT-SVIDs' },
} as const;

/**
 * Makes one of them in this signer's token, P-256, and names it in its authority.json; where there is one
 * already, that one stays unless it is to be replaced. No ceremony: the issuer certifies the key that answers OCSP when
 * the server asks, and the server puts that of JWT-SVIDs into the bundle. A running signer takes it up when it starts
 * again. Throws `config-…`.
 */
export async function makeOwnKey(
  config: SignerConfig,
  which: keyof typeof ownKeys,
  isReplaced: boolean,
): Promise<{ key: HsmKey; made: boolean }> {
  const folder = signerFolder(config);
  const file = join(folder, 'authority.json');
  const authority = readAuthority(file);
  const present = which === 'make-jwt-key' ? authority.jwtKey : authority.ocspKey;
  if (present && !isReplaced) return { key: present, made: false };
  const { hsm } = config;
  for (const [name, value] of Object.entries(hsm.environment)) process.env[name] = value;
  const token = HsmToken.open(hsm, { readWrite: true });
  token.login(hsm.pinFile, refusedPinFile(folder));
  const key = generateKeyPair(token, { type: 'ec-p256', label: ownKeys[which].label });
  const named =
    which === 'make-jwt-key' ? { jwtKey: { ...key, maxSeconds: jwtMaxSeconds } } : { ocspKey: key };
  await writeAtomically(file, encodeAuthority({ ...authority, ...named }));
  return { key, made: true };
}
