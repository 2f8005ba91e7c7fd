import { open } from 'node:fs/promises';
import path from 'node:path';
import { VouchError } from '../core/errors.ts';

const keyMaxBytes = 1024;
const credential = 'credential:';

/** Where a key file lies: as it is named, or `credential:NAME` below $CREDENTIALS_DIRECTORY (systemd). */
function keyFilePath(named: string, environment: NodeJS.ProcessEnv = process.env): string {
  if (!named.startsWith(credential)) return named;
  return path.join(environment.CREDENTIALS_DIRECTORY ?? '/', path.basename(named.slice(credential.length)));
}

/**
 * The one line of a key file. Throws `config-secret-readable` where others can read it (I8), `config-invalid` where there
 * is no key in it; no message carries any of it.
 */
export async function readKeyFile(named: string): Promise<string> {
  const file = keyFilePath(named);
  const handle = await open(file, 'r').catch((cause: unknown) => {
    throw new VouchError('config-invalid', `the key file ${file} cannot be read`, { cause });
  });
  try {
    const found = await handle.stat();
    // systemd grants its unit's user by an ACL on a file of root's: the mask then shows as the group's bits.
    const byAcl = named.startsWith(credential) && found.uid === 0 && found.gid === 0;
    if (__VOUCH_WITHOUT__ !== 'I8' && (found.mode & (byAcl ? 0o037 : 0o077)) !== 0)
      throw new VouchError(
        'config-secret-readable',
        `others can read the key file ${file}; run: chmod 600 ${file}`,
      );
    const bytes = Buffer.alloc(keyMaxBytes + 1);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    const line = bytes.toString('latin1', 0, bytesRead).replace(/\r?\n$/, '');
    if (!/^[\x21-\x7e]{1,1024}$/.test(line))
      throw new VouchError('config-invalid', `the key file ${file} does not hold one line with a key`);
    return line;
  } finally {
    await handle.close();
  }
}
