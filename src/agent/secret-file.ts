import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs';
import { VouchError } from '../core/errors.ts';
import { type JoinFile, joinFileMaxBytes, parseJoinFile } from '../wire/join-file.ts';

/**
 * Reads and parses a join file. Throws `config-secret-readable` where group or others may read it (I8), and
 * `config-invalid` where it is missing or is no join file; no message carries any of its content.
 */
export function readJoinFile(path: string): JoinFile {
  return parseJoinFile(
    readSecretFile(path, joinFileMaxBytes + 1, {
      name: 'join file',
      ifMissing: 'make one with `vouch token create --out`',
      ifReadable: 'treat its token as known, make a new join file, chmod 600',
    }),
  );
}

/** What a secret file is called, and what to do where it is missing or readable. */
interface SecretWords {
  name: string;
  ifMissing: string;
  ifReadable: string;
}

/** The first `maxBytes` of a file that its owner alone may read. Throws as `readJoinFile`. */
export function readSecretFile(path: string, maxBytes: number, words: SecretWords): string {
  const file = open(path, words);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new VouchError('config-invalid', `${path} is not a file`);
    if ((stat.mode & 0o077) !== 0)
      throw new VouchError(
        'config-secret-readable',
        `${path} can be read by others (mode 0${(stat.mode & 0o777).toString(8)}): ${words.ifReadable}`,
      );
    const bytes = Buffer.alloc(maxBytes);
    return bytes.toString('utf8', 0, readSync(file, bytes, 0, maxBytes, 0));
  } finally {
    closeSync(file);
  }
}

function open(path: string, { name, ifMissing }: SecretWords): number {
  try {
    // A pipe would have us wait.
    return openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const why = missing ? `is not there; ${ifMissing}` : 'cannot be read';
    throw new VouchError('config-invalid', `the ${name} ${path} ${why}`, { cause });
  }
}
