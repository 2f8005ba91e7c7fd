import { createCipheriv, createDecipheriv, createHash, randomBytes } from 'node:crypto';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { VouchError } from '../../core/errors.ts';
import { replaceFile } from '../deliver/durable-file.ts';
import type { Held } from '../held.ts';
import { type CacheKeys, cacheKeyBytes, type Keyring, keyringOrFile } from './cache-keys.ts';

/** First bytes of the file; a nonce, the ciphertext and its tag follow. */
const magic = Buffer.from('vouch-agent-cache-1\n');
const nonceBytes = 12;
const tagBytes = 16;
/** 10,000 entries with their certificates are 40 MB. */
const maxBytes = 128 * 1024 * 1024;

/** Of the agent that has this identity, in its folder. */
export function cacheOf({ state, delivered }: Held, dir: string, keyring: Keyring | undefined): SealedCache {
  const owner = `${delivered.spiffeId} ${state.pin}`;
  const name = `vouch-agent:${createHash('sha256').update(dir).digest('hex').slice(0, 16)}`;
  const keys = keyringOrFile(keyring, name, join(dir, 'cache.key'));
  return new SealedCache(join(dir, 'cache.sealed'), keys, owner);
}

/**
 * A file sealed with AES-256-GCM under a key that is made anew with each save, so that a copy of an older file opens
 * nothing any more. `owner` says whose it is; the file of another owner does not open.
 */
export class SealedCache {
  readonly #path: string;
  readonly #keys: CacheKeys;
  readonly #owner: Buffer;
  #current: Buffer | undefined;

  constructor(path: string, keys: CacheKeys, owner: string) {
    this.#path = path;
    this.#keys = keys;
    this.#owner = Buffer.concat([magic, Buffer.from(owner)]);
  }

  get keysIn(): CacheKeys['where'] {
    return this.#keys.where;
  }

  /** What was saved last; undefined where nothing was. Throws `config-state` for a file that is damaged, older, or not ours. */
  read(): Buffer | undefined {
    const sealed = this.#sealed();
    if (sealed === undefined) return undefined;
    const keys = this.#keys.read();
    if (keys.length === 0)
      throw new VouchError('config-state', `${this.#path} is not used: its key is gone, as after a reboot`);
    for (const key of keys) {
      const opened = open(sealed, key, this.#owner);
      if (opened === undefined) continue;
      this.#current = key;
      return opened;
    }
    throw new VouchError(
      'config-state',
      `${this.#path} is not used: it is damaged, older than the last one, or of another agent`,
    );
  }

  /** Key first, the one before it kept: after a crash in between the old file still opens. Rejects as `replaceFile` does. */
  async save(content: Buffer): Promise<void> {
    const key = randomBytes(cacheKeyBytes);
    await this.#keys.write(this.#current === undefined ? [key] : [key, this.#current]);
    const nonce = randomBytes(nonceBytes);
    const cipher = createCipheriv('aes-256-gcm', key, nonce).setAAD(this.#owner);
    const body = [magic, nonce, cipher.update(content), cipher.final(), cipher.getAuthTag()];
    await replaceFile(this.#path, Buffer.concat(body), 0o600);
    this.#current = key;
  }

  #sealed(): Buffer | undefined {
    try {
      if (statSync(this.#path).size <= maxBytes) return readFileSync(this.#path);
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw new VouchError('config-state', `${this.#path} cannot be read`, { cause });
    }
    throw new VouchError('config-state', `${this.#path} is not used: it is larger than any of ours`);
  }
}

function open(sealed: Buffer, key: Buffer, owner: Buffer): Buffer | undefined {
  const at = magic.length + nonceBytes;
  if (sealed.length < at + tagBytes || !sealed.subarray(0, magic.length).equals(magic)) return undefined;
  try {
    const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(magic.length, at), {
      authTagLength: tagBytes,
    });
    decipher.setAAD(owner).setAuthTag(sealed.subarray(-tagBytes));
    return Buffer.concat([decipher.update(sealed.subarray(at, -tagBytes)), decipher.final()]);
  } catch {
    return undefined;
  }
}
