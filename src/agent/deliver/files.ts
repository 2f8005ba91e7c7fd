import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readdir, readlink, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileNames } from '../../client/delivered.ts';
import type { InclusionProofJson, PeersJson } from '../../wire/enrollment.ts';
import { Slice } from '../../jobs/slice.ts';
import { encodePem, encodePemParts } from '../../x509/pem.ts';
import { type Content, type Owner, syncFolder, writeDurably, writeFailure } from './durable-file.ts';

/** What a generation is made of; all DER. */
export interface Generation {
  /** Leaf first, then issuers, without the root. */
  chain: readonly Buffer[];
  /** The trust domain's issuers besides that of the chain: who checks a peer by its leaf alone needs them. */
  otherIssuers: readonly Buffer[];
  /** PEM, PKCS#8. */
  keyPem: string;
  roots: readonly Buffer[];
  /** One for each CA in the chain, the root too, and for each other issuer. */
  crls: readonly Buffer[];
  proof: InclusionProofJson;
  peers: PeersJson;
}

/** Makes the delivery folder. Throws `config-state` where it cannot. */
export async function makeDeliveryFolder(dir: string): Promise<void> {
  try {
    await makeFolders(dir);
  } catch (error) {
    throw writeFailure(error, dir);
  }
}

/** Not Node's recursive mkdir, which tries for ever below a folder that takes none, such as /proc. */
async function makeFolders(dir: string): Promise<void> {
  const make = (): Promise<void> => mkdir(dir, { mode: 0o755 });
  try {
    await make();
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'EEXIST' && (await stat(dir)).isDirectory()) return;
    if (code !== 'ENOENT' || dirname(dir) === dir) throw error;
    await makeFolders(dirname(dir));
    await make();
  }
}

/** A file of a generation. */
export interface DeliveredFile {
  name: string;
  content: Content;
  mode: number;
}

/** `deliverFiles` with what every generation has. */
export function deliverGeneration(dir: string, generation: Generation): Promise<void> {
  return deliverFiles(dir, [...generationFiles(generation), crlFile(generation.crls)]);
}

/**
 * Writes a generation folder, whole and fsynced, and only then gives it its number and makes `current` name it, in one
 * rename each. A crash or failure before that leaves the old one current; the one before it stays for readers that are
 * under way, older ones go. Others may deliver into `dir` at the same time: the last one is current then.
 */
export async function deliverFiles(
  dir: string,
  files: readonly DeliveredFile[],
  owner?: Owner,
): Promise<void> {
  const previous = await currentName(dir);
  const unfinished = join(dir, `.generation-${randomBytes(6).toString('hex')}`);
  try {
    await mkdir(unfinished, { mode: 0o755 });
    await Promise.all(
      files.map(({ name, content, mode }) => writeDurably(join(unfinished, name), content, mode, owner)),
    );
    await syncFolder(unfinished);
    const name = await numbered(dir, unfinished);
    await pointCurrentTo(dir, name);
    // What cannot be removed now is removed after the next delivery.
    await removeOlder(dir, previous, name).catch(() => undefined);
  } catch (error) {
    // Nothing where it has its number: `current` may name it already, whatever failed.
    await rm(unfinished, { recursive: true, force: true });
    throw writeFailure(error, dir);
  }
}

/** crl.pem of some CRLs, issuer's first. */
export function crlPem(crls: readonly Buffer[]): string {
  return crls.map((der) => encodePem('X509 CRL', der)).join('');
}

/** The same for large ones: others have their turns between the parts. */
export async function* crlPemInSlices(crls: readonly Buffer[]): AsyncGenerator<string> {
  const slice = new Slice();
  for (const der of crls)
    for (const part of encodePemParts('X509 CRL', der)) {
      yield part;
      if (slice.isOver) await slice.turn();
    }
}

/** crl.pem. */
export function crlFile(crls: readonly Buffer[]): DeliveredFile {
  return { name: fileNames.crl, content: crlPemInSlices(crls), mode: 0o644 };
}

/** All but crl.pem, which changes within a generation's life. */
export function generationFiles(
  generation: Omit<Generation, 'crls'>,
): (DeliveredFile & { content: string })[] {
  const { keyPem, proof, peers } = generation;
  const chainPem = certificatesPem(generation.chain);
  const issuersPem = certificatesPem(generation.otherIssuers);
  const json = (value: unknown): string => `${JSON.stringify(value, undefined, 2)}\n`;
  return [
    { name: fileNames.chain, content: chainPem, mode: 0o644 },
    { name: fileNames.key, content: keyPem, mode: 0o600 },
    { name: fileNames.combined, content: keyPem + chainPem, mode: 0o600 },
    { name: fileNames.bundle, content: certificatesPem(generation.roots), mode: 0o644 },
    ...(issuersPem === '' ? [] : [{ name: fileNames.issuers, content: issuersPem, mode: 0o644 }]),
    { name: fileNames.proof, content: json(proof), mode: 0o644 },
    { name: fileNames.peers, content: json(peers), mode: 0o644 },
  ];
}

function certificatesPem(ders: readonly Buffer[]): string {
  return ders.map((der) => encodePem('CERTIFICATE', der)).join('');
}

/** Gives a finished folder the next number. Six digits sort as text for as long as anybody will look. */
async function numbered(dir: string, unfinished: string): Promise<string> {
  for (;;) {
    const numbers = (await readdir(dir)).filter((name) => generationGrammar.test(name)).map(Number);
    const name = String(Math.max(0, ...numbers) + 1).padStart(6, '0');
    try {
      await rename(unfinished, join(dir, name));
      return name;
    } catch (error) {
      // Somebody else took the number.
      if (!['ENOTEMPTY', 'EEXIST'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
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

/**
 * Removes generations below the one that was current before ours, and what crashes left behind. What is newer may be
 * somebody's who delivers beside us, about to be made current; what is unfinished is somebody's work for an hour.
 */
async function removeOlder(dir: string, previous: string | undefined, ours: string): Promise<void> {
  const { mtimeMs: nowMs } = await stat(join(dir, ours));
  for (const name of await readdir(dir)) {
    const path = join(dir, name);
    const isOver = generationGrammar.test(name)
      ? Number(name) < Number(previous) && name !== (await currentName(dir))
      : leftOverGrammar.test(name) && (await changedMs(path)) < nowMs - leftOverMs;
    if (isOver) await rm(path, { recursive: true, force: true });
  }
}

/** When a file changed; what is gone meanwhile has just changed. */
async function changedMs(path: string): Promise<number> {
  const found = await lstat(path).catch(() => undefined);
  return found?.mtimeMs ?? Infinity;
}

const generationGrammar = /^\d{6,15}$/;
/** What a crash between writing and renaming leaves behind. */
const leftOverGrammar = /^(?:\.current-|\.generation-|\.pending-|agent\.json\.)[0-9a-f]{12}$/;
/** No delivery takes that long. */
const leftOverMs = 3_600_000;
