import { constants, type Stats } from 'node:fs';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileNames } from '../../client/delivered.ts';
import type { DeliverTarget } from '../../config/deliver-config.ts';
import { VouchError } from '../../core/errors.ts';
import { encodePem } from '../../x509/pem.ts';
import { readSecretFile } from '../secret-file.ts';
import type { Svid, Trust } from '../workloads.ts';
import { accountNumber } from './accounts.ts';
import type { Owner } from './durable-file.ts';
import { crlPemInSlices, type DeliveredFile, generationFiles } from './files.ts';
import { pkcs12 } from './pkcs12.ts';

/** A file that can be compared with one on disk more than once. */
export type TargetFile = DeliveredFile & { content: string | Buffer };

/** Names of a target's files besides those of every generation. */
const storeNames = { identity: 'svid.p12', trust: 'truststore.p12' } as const;

const passwordMaxLength = 128;

/** What a target's folder is to hold, without crl.pem; the same for the same input. Throws `config-…`. */
export async function targetFiles(config: DeliverTarget, svid: Svid, trust: Trust): Promise<TargetFile[]> {
  const { formats } = config;
  const files = generationFiles({
    chain: svid.chain,
    otherIssuers: trust.issuers.filter((der) => !svid.chain.some((own) => own.equals(der))),
    keyPem: encodePem('PRIVATE KEY', svid.keyPkcs8),
    roots: trust.roots,
    proof: svid.proof,
    peers: { version: svid.entryVersion, allowedClients: [...svid.allowedClients] },
  });
  const keyMode = Number.parseInt(config.mode, 8);
  return [
    ...files
      .filter(({ name }) => name !== fileNames.combined || formats.includes('combined'))
      .map((file) => (file.mode === 0o600 ? { ...file, mode: keyMode } : file)),
    ...(await stores(config, svid, trust)).map((file) => ({ ...file, mode: keyMode })),
  ];
}

/** svid.p12, and truststore.p12 for Java, which would take a store's own certificate for trusted, too. */
async function stores(
  { formats, pkcs12: settings }: DeliverTarget,
  { keyPkcs8, chain }: Svid,
  { roots: trusted }: Trust,
): Promise<{ name: string; content: Buffer }[]> {
  if (!formats.includes('pkcs12') || settings === undefined) return [];
  const common = { trusted, password: readPassword(settings.passwordFile), seed: keyPkcs8 };
  return [
    { name: storeNames.identity, content: await pkcs12({ ...common, identity: { keyPkcs8, chain } }) },
    { name: storeNames.trust, content: await pkcs12({ ...common, identity: undefined }) },
  ];
}

function readPassword(path: string): string {
  const text = readSecretFile(path, passwordMaxLength + 2, {
    name: 'password file',
    ifMissing: 'write the password of the PKCS#12 files into it, chmod 600',
    ifReadable: 'chmod 600, and think of another password',
  }).replace(/\r?\n$/, '');
  if (!/^[\x20-\x7e]{6,128}$/.test(text))
    throw new VouchError(
      'config-invalid',
      `${path} must hold one line of 6 to ${passwordMaxLength} printable ASCII characters, which is what all readers of PKCS#12 take`,
    );
  return text;
}

/** Whose a target's files are. Throws `config-state` where there is no such account, or it is not ours to give to. */
export function targetOwner({ owner, group }: DeliverTarget): Owner {
  const uid = accountNumber('user', owner);
  const gid = accountNumber('group', group);
  const ours = process.geteuid?.();
  if (ours !== 0 && uid !== undefined && uid !== ours)
    throw new VouchError(
      'config-state',
      `the agent runs as uid ${ours} and cannot give files to ${owner}: run it as root, or as that user`,
    );
  const groups = [process.getegid?.(), ...(process.getgroups?.() ?? [])];
  if (ours !== 0 && gid !== undefined && !groups.includes(gid))
    throw new VouchError(
      'config-state',
      `the agent runs as uid ${ours}, which is not in ${group}: run it as root, or put that user into the group`,
    );
  return { uid, gid };
}

/** Whether a folder holds these files and no others but CRLs, with owner and mode. */
export async function isDelivered(
  folder: string,
  files: readonly TargetFile[],
  owner: Owner,
): Promise<boolean> {
  const names = await readdir(folder).catch(() => []);
  const others = names.filter((name) => name !== fileNames.crl && name !== fileNames.delta);
  if (others.length !== files.length) return false;
  const same = await Promise.all(files.map((file) => isSameFile(join(folder, file.name), file, owner)));
  return same.every(Boolean);
}

async function isSameFile(
  path: string,
  { content, mode }: TargetFile,
  { uid, gid }: Owner,
): Promise<boolean> {
  return holds(path, [content], (stat) => {
    const isOurs = stat.uid === (uid ?? stat.uid) && stat.gid === (gid ?? stat.gid);
    return isOurs && (stat.mode & 0o7777) === mode;
  });
}

/** Whether a file is the crl.pem of these CRLs. */
export async function holdsCrls(path: string, crls: readonly Buffer[]): Promise<boolean> {
  return holds(path, crlPemInSlices(crls));
}

/**
 * Whether a file holds these parts and no more. It is read no further than it does: it is in the hands of whom it was
 * given to, who may have made it as large as he likes.
 */
async function holds(
  path: string,
  parts: AsyncIterable<string> | Iterable<string | Buffer>,
  isRight: (stat: Stats) => boolean = () => true,
): Promise<boolean> {
  const file = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    () => undefined,
  );
  if (file === undefined) return false;
  try {
    const stat = await file.stat();
    if (!stat.isFile() || !isRight(stat)) return false;
    let at = 0;
    for await (const part of parts) {
      const wanted = Buffer.from(part);
      const { buffer, bytesRead } = await file.read(Buffer.alloc(wanted.length), 0, wanted.length, at);
      if (!wanted.equals(buffer.subarray(0, bytesRead))) return false;
      at += wanted.length;
    }
    return at === stat.size;
  } catch {
    return false;
  } finally {
    await file.close();
  }
}
