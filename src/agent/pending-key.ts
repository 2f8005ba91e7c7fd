import { createPrivateKey, type KeyObject, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { buildCsr, parseCsr } from '../x509/csr.ts';
import { importPublicKey, type KeyType } from '../x509/public-key.ts';
import { syncFolder, writeDurably, writeFailure } from './deliver/durable-file.ts';
import { newWorkloadKey } from './key-type.ts';

/** A key that waits for its certificate. */
export interface PendingKey {
  key: KeyObject;
  /** PEM, PKCS#8. */
  keyPem: string;
  /** DER. */
  csr: Buffer;
  /** DER SubjectPublicKeyInfo. */
  spki: Buffer;
}

const folderName = 'pending';

/**
 * The key of this attempt, on disk before anything is sent: a crash between the server's commit and our files is then
 * met by asking again with the same key, which gives the same certificate (I6). `purpose` is the hex digest of the
 * evidence; a key that waited for something else, or that is of another type than was asked for, is replaced.
 */
export async function pendingKey(
  dir: string,
  purpose: string,
  type: { asked: KeyType | undefined; usual: KeyType },
): Promise<PendingKey> {
  const folder = join(dir, folderName);
  const left = readPending(folder, purpose, type.asked);
  if (left !== undefined) return left;
  const privateKey = await newWorkloadKey(type.asked ?? type.usual);
  const keyPem = privateKey.export({ format: 'pem', type: 'pkcs8' }).toString();
  const csr = buildCsr(privateKey);
  const fresh = join(dir, `.${folderName}-${randomBytes(6).toString('hex')}`);
  try {
    await mkdir(fresh, { mode: 0o700 });
    await Promise.all([
      writeDurably(join(fresh, 'key.pem'), keyPem, 0o600),
      writeDurably(join(fresh, 'request.der'), csr, 0o600),
      writeDurably(join(fresh, 'purpose'), purpose, 0o600),
    ]);
    await syncFolder(fresh);
    await rm(folder, { recursive: true, force: true });
    await rename(fresh, folder);
    await syncFolder(dir);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    throw writeFailure(error, folder);
  }
  return { key: privateKey, keyPem, csr, spki: parseCsr(csr).spki };
}

/** Forgets the key: its certificate is delivered, or it will never get one. */
export async function dropPendingKey(dir: string): Promise<void> {
  await rm(join(dir, folderName), { recursive: true, force: true });
}

function readPending(folder: string, purpose: string, asked: KeyType | undefined): PendingKey | undefined {
  try {
    if (readFileSync(join(folder, 'purpose'), 'utf8') !== purpose) return undefined;
    const keyPem = readFileSync(join(folder, 'key.pem'), 'utf8');
    const csr = readFileSync(join(folder, 'request.der'));
    const { spki } = parseCsr(csr);
    if (asked !== undefined && importPublicKey(spki).type !== asked) return undefined;
    return { key: createPrivateKey(keyPem), keyPem, csr, spki };
  } catch {
    return undefined;
  }
}
