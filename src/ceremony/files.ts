import { readdirSync, readFileSync, statSync } from 'node:fs';
import path from 'node:path';
import type { ResultFiles } from './result.ts';
import { VouchError } from '../core/errors.ts';

/** Largest file of a result; a root's CRL with thousands of entries is smaller. */
const fileMaxBytes = 150_000;
const filesMost = 40;

/** Reads the folder that a ceremony made. Throws `config-invalid` where it is none. */
export function readResult(folder: string): ResultFiles {
  let names: string[];
  try {
    names = readdirSync(folder);
  } catch (cause) {
    throw new VouchError('config-invalid', `${folder} is not the folder that a ceremony made`, { cause });
  }
  // What a stick or a person adds beside them is nobody's.
  const known = names.filter((name) => /^[a-z0-9-]+\.(?:cer|crl|csr|jws|json)$/.test(name));
  if (known.length > filesMost)
    throw new VouchError('config-invalid', `${folder} has more files than a ceremony makes`);
  return new Map(
    known.map((name) => {
      const file = path.join(folder, name);
      // A pipe or a device on the medium would have no end.
      const stat = statSync(file, { throwIfNoEntry: false });
      if (!stat?.isFile() || stat.size > fileMaxBytes)
        throw new VouchError('config-invalid', `${file} is no file, or larger than a ceremony makes it`);
      return [name, readFileSync(file)];
    }),
  );
}
