import { join } from 'node:path';
import { writeAtomically } from './atomic-file.ts';
import { encodeAuthority, readAuthority } from './authority-file.ts';
import type { HsmKey } from './hsm.ts';
import { generateKeyPair } from './pkcs11/key-pair.ts';
import { HsmToken } from './pkcs11/token.ts';
import { refusedPinFile } from './refused-pin.ts';
import { type SignerConfig, signerFolder } from './runtime.ts';

/**
 * Makes the key that answers OCSP in this signer's token, P-256, and names it in its authority.json; where there is one
 * already, that one stays unless it is to be replaced. No ceremony: the issuer certifies it when the server asks. A running signer takes it up when
 * it starts again. Throws `config-…`.
 */
export async function makeOcspKey(
  config: SignerConfig,
  isReplaced: boolean,
): Promise<{ key: HsmKey; made: boolean }> {
  const folder = signerFolder(config);
  const file = join(folder, 'authority.json');
  const authority = readAuthority(file);
  if (authority.ocspKey && !isReplaced) return { key: authority.ocspKey, made: false };
  const { hsm } = config;
  for (const [name, value] of Object.entries(hsm.environment)) process.env[name] = value;
  const token = HsmToken.open(hsm, { readWrite: true });
  token.login(hsm.pinFile, refusedPinFile(folder));
  const key = generateKeyPair(token, { type: 'ec-p256', label: 'vouch-ocsp' });
  await writeAtomically(file, encodeAuthority({ ...authority, ocspKey: key }));
  return { key, made: true };
}
