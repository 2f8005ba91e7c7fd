import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { VouchError } from '../core/errors.ts';
import { type JoinFile, joinFileMaxBytes, parseJoinFile } from '../wire/join-file.ts';

/**
 * Reads and parses a join file. Throws `config-secret-readable` where group or others may read it (I8), and
 * `config-invalid` where it is missing or is no join file; no message carries any of its content.
 */
export function readJoinFile(path: string): JoinFile {
  return parseJoinFile(readSecret(path, joinFileMaxBytes + 1));
}

function readSecret(path: string, maxBytes: number): string {
  const file = open(path);
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) throw new VouchError('config-invalid', `${path} is not a file`);
    if ((stat.mode & 0o077) !== 0)
      throw new VouchError(
        'config-secret-readable',
        `${path} can be read by others (mode 0${(stat.mode & 0o777).toString(8)}): treat its token as known, make a new join file, chmod 600`,
      );
    const bytes = Buffer.alloc(maxBytes);
    return bytes.toString('utf8', 0, readSync(file, bytes, 0, maxBytes, 0));
  } finally {
    closeSync(file);
  }
}

function open(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (cause) {
    const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT';
    const why = missing ? 'is not there; make one with `vouch token create --out`' : 'cannot be read';
    throw new VouchError('config-invalid', `the join file ${path} ${why}`, { cause });
  }
}
