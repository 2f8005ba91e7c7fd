import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { replaceFile } from '../deliver/durable-file.ts';

/** Bytes of one key, AES-256. */
export const cacheKeyBytes = 32;

/** Where the keys of the sealed cache are kept: the newest, then the one before it. */
export interface CacheKeys {
  /** None where there are none, or they cannot be had. */
  read(): Buffer[];
  write(keys: readonly Buffer[]): Promise<void>;
  /** For status and log. */
  readonly where: 'keyring' | 'file';
}

/** The kernel's keyring, as the native addon gives it. Both throw where there is none for us. */
export interface Keyring {
  read(name: string): Buffer | undefined;
  write(name: string, value: Buffer): void;
}

/** In a file beside the cache, 0600: who reads both reads the cache. */
export function keyFile(path: string): CacheKeys {
  return {
    where: 'file',
    read: () => {
      try {
        return split(readFileSync(path));
      } catch {
        return [];
      }
    },
    write: (keys) => replaceFile(path, Buffer.concat(keys), 0o600),
  };
}

/**
 * In the kernel's keyring under `name`, so that neither a copy of the folder nor a disk image opens the cache, and a reboot
 * ends it; in the file at `path` where the kernel has no keyring for us, as in most containers.
 */
export function keyringOrFile(keyring: Keyring | undefined, name: string, path: string): CacheKeys {
  const file = keyFile(path);
  if (keyring === undefined) return file;
  let where: CacheKeys['where'] = 'keyring';
  return {
    get where() {
      return where;
    },
    read: () => {
      try {
        const kept = keyring.read(name);
        if (kept !== undefined) return split(kept);
      } catch {
        where = 'file';
      }
      return file.read();
    },
    write: async (keys) => {
      try {
        keyring.write(name, Buffer.concat(keys));
        where = 'keyring';
        await rm(path, { force: true });
      } catch {
        where = 'file';
        await file.write(keys);
      }
    },
  };
}

function split(bytes: Buffer): Buffer[] {
  const keys = [];
  for (let at = 0; at + cacheKeyBytes <= bytes.length; at += cacheKeyBytes)
    keys.push(bytes.subarray(at, at + cacheKeyBytes));
  return keys;
}
