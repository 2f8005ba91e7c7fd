import { readFile, stat } from 'node:fs/promises';

/**
 * Reads a file such as passwd(5) or group(5), again when it has changed: number → name, the first name of each as
 * getpwuid(3) gives. Users of directories such as LDAP are not in it; a file that is missing has no names.
 */
export function nameFile(path: string): () => Promise<ReadonlyMap<number, string>> {
  let read: { version: string; names: Promise<ReadonlyMap<number, string>> } | undefined;
  return async () => {
    const version = await versionOf(path);
    if (version === undefined) return new Map();
    if (read?.version !== version) read = { version, names: readNames(path) };
    return read.names;
  };
}

async function versionOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs } = await stat(path, { bigint: true });
    return [dev, ino, size, mtimeNs, ctimeNs].join();
  } catch {
    return undefined;
  }
}

async function readNames(path: string): Promise<ReadonlyMap<number, string>> {
  const names = new Map<number, string>();
  for (const line of (await readFile(path, 'utf8')).split('\n')) {
    const [name, , number] = line.split(':');
    if (name && number !== undefined && /^\d+$/.test(number) && !names.has(Number(number)))
      names.set(Number(number), name);
  }
  return names;
}
