import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readlink, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { fileNames } from '../../client/delivered.ts';
import type { InclusionProofJson, PeersJson } from '../../wire/enrollment.ts';
import { encodePem } from '../../x509/pem.ts';
import { syncFolder, writeDurably, writeFailure } from './durable-file.ts';

/** What a generation is made of; all DER. */
export interface Generation {
  /** Leaf first, then issuers, without the root. */
  chain: readonly Buffer[];
  /** PEM, PKCS#8. */
  keyPem: string;
  roots: readonly Buffer[];
  /** One for each CA in the chain, the root too. */
  crls: readonly Buffer[];
  proof: InclusionProofJson;
  peers: PeersJson;
}

/** Makes the delivery folder. Throws `config-state` where it cannot. */
export async function makeDeliveryFolder(dir: string): Promise<void> {
  try {
    await mkdir(dir, { recursive: true, mode: 0o755 });
  } catch (error) {
    throw writeFailure(error, dir);
  }
}

/**
 * Writes a generation folder, whole and fsynced, and only then makes `current` name it, in one rename. A crash before
 * that leaves the old one current; the one before it stays for readers that are under way, older ones go.
 */
export async function deliverGeneration(dir: string, generation: Generation): Promise<void> {
  const previous = await currentName(dir);
  const name = await makeGenerationFolder(dir);
  const folder = join(dir, name);
  try {
    await Promise.all(
      filesOf(generation).map(([file, text, mode]) => writeDurably(join(folder, file), text, mode)),
    );
    await syncFolder(folder);
    await pointCurrentTo(dir, name);
  } catch (error) {
    await rm(folder, { recursive: true, force: true });
    throw writeFailure(error, folder);
  }
  await removeOlder(dir, [name, previous]);
}

/** crl.pem of some CRLs, issuer's first. */
export function crlPem(crls: readonly Buffer[]): string {
  return crls.map((der) => encodePem('X509 CRL', der)).join('');
}

function filesOf(generation: Generation): [string, string, number][] {
  const chainPem = generation.chain.map((der) => encodePem('CERTIFICATE', der)).join('');
  const bundlePem = generation.roots.map((der) => encodePem('CERTIFICATE', der)).join('');
  return [
    [fileNames.chain, chainPem, 0o644],
    [fileNames.key, generation.keyPem, 0o600],
    [fileNames.combined, generation.keyPem + chainPem, 0o600],
    [fileNames.bundle, bundlePem, 0o644],
    [fileNames.crl, crlPem(generation.crls), 0o644],
    [fileNames.proof, `${JSON.stringify(generation.proof, undefined, 2)}\n`, 0o644],
    [fileNames.peers, `${JSON.stringify(generation.peers, undefined, 2)}\n`, 0o644],
  ];
}

/** Generations are numbered; six digits sort as text for as long as anybody will look. */
async function makeGenerationFolder(dir: string): Promise<string> {
  const numbers = (await readdir(dir)).filter((name) => generationGrammar.test(name)).map(Number);
  for (let next = Math.max(0, ...numbers) + 1; ; next += 1) {
    const name = String(next).padStart(6, '0');
    try {
      await mkdir(join(dir, name), { mode: 0o755 });
      return name;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw writeFailure(error, join(dir, name));
    }
  }
}

async function pointCurrentTo(dir: string, name: string): Promise<void> {
  const fresh = join(dir, `.current-${randomBytes(6).toString('hex')}`);
  await symlink(name, fresh);
  await rename(fresh, join(dir, 'current'));
  await syncFolder(dir);
}

async function currentName(dir: string): Promise<string | undefined> {
  try {
    return await readlink(join(dir, 'current'));
  } catch {
    return undefined;
  }
}

async function removeOlder(dir: string, kept: readonly (string | undefined)[]): Promise<void> {
  const names = (await readdir(dir)).filter(
    (name) => generationGrammar.test(name) || leftOverGrammar.test(name),
  );
  for (const name of names)
    if (!kept.includes(name)) await rm(join(dir, name), { recursive: true, force: true });
}

const generationGrammar = /^\d{6,15}$/;
/** What a crash between writing and renaming leaves behind. */
const leftOverGrammar = /^(?:\.current-|\.pending-|agent\.json\.)[0-9a-f]{12}$/;
