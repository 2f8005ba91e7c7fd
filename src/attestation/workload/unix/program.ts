import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { type FileHandle, open, readlink, stat } from 'node:fs/promises';
import { type Clock, systemClock } from '../../../core/clock.ts';
import { unknownWorkload } from '../peer.ts';

/** A larger program has no hash: reading it would keep others waiting. */
const programMaxBytes = 1024 * 1024 * 1024;
/** Hashed in one turn of the event loop: 0.3 ms. */
const sliceBytes = 256 * 1024;
const keptHashes = 1_000;
/** A file can change again within the grain of its times (2 s on the coarsest): until then its hash is not kept. */
const restlessMs = 2_000;
/** Programs that may wait to be hashed; more are refused. */
const waitingHashes = 64;

/**
 * Whether /proc/<pid>/exe is what the process was started as: whoever has a user namespace of his own may name there
 * any program that he can open (PR_SET_MM_MAP, prctl(2)), so only processes of the agent's namespace are believed.
 */
async function isBelieved(pid: number): Promise<boolean> {
  const [own, its] = await Promise.all([readlink('/proc/self/ns/user'), readlink(`/proc/${pid}/ns/user`)]);
  return own === its;
}

/**
 * The path of a process's program, if the agent finds that very file there. A workload chooses what its own mounts
 * show at a path, so the link of /proc alone proves nothing; one that was deleted or replaced has no path.
 */
export async function pathOf(pid: number): Promise<string | undefined> {
  try {
    if (!(await isBelieved(pid))) return undefined;
    const [path, runs] = await Promise.all([
      readlink(`/proc/${pid}/exe`),
      stat(`/proc/${pid}/exe`, { bigint: true }),
    ]);
    const stands = await stat(path, { bigint: true });
    return stands.dev === runs.dev && stands.ino === runs.ino ? path : undefined;
  } catch {
    return undefined;
  }
}

/**
 * SHA-256, lower-case hex, of the file that a process runs, read through the process itself; undefined where the agent
 * may not read it. A file is read once while it stays as it is; one at a time, others wait.
 */
export function createHashes(
  clock: Clock = systemClock,
  maxBytes = programMaxBytes,
): (pid: number) => Promise<string | undefined> {
  const kept = new Map<string, Promise<string>>();
  let last: Promise<unknown> = Promise.resolve();
  let waiting = 0;

  const inTurn = (file: FileHandle, version: string): Promise<string> => {
    if (waiting >= waitingHashes) throw unknownWorkload('too many programs wait to be hashed');
    waiting += 1;
    const hash = last.then(() => hashFile(file, version)).finally(() => (waiting -= 1));
    last = hash.catch(() => undefined);
    return hash;
  };

  const keep = (version: string, hash: Promise<string>): void => {
    kept.set(version, hash);
    hash.catch(() => kept.delete(version));
    const [oldest] = kept.keys();
    if (kept.size > keptHashes && oldest !== undefined) kept.delete(oldest);
  };

  return async (pid) => {
    const file = await openProgram(pid);
    if (file === undefined) return undefined;
    try {
      const runs = await file.stat({ bigint: true });
      if (runs.size > BigInt(maxBytes)) return undefined;
      const version = versionOf(runs);
      const known = kept.get(version);
      if (known !== undefined) return await known;
      const hash = inTurn(file, version);
      if (Math.abs(clock.now() - Number(runs.ctimeMs)) > restlessMs) keep(version, hash);
      return await hash;
    } finally {
      await file.close();
    }
  };
}

async function openProgram(pid: number): Promise<FileHandle | undefined> {
  try {
    return (await isBelieved(pid)) ? await open(`/proc/${pid}/exe`, 'r') : undefined;
  } catch {
    return undefined;
  }
}

/** Throws denied-workload where the file changed meanwhile. */
async function hashFile(file: FileHandle, version: string): Promise<string> {
  const hash = createHash('sha256');
  const slice = Buffer.allocUnsafe(sliceBytes);
  for (let position = 0; ; ) {
    const { bytesRead } = await file.read(slice, 0, sliceBytes, position);
    if (bytesRead === 0) break;
    hash.update(slice.subarray(0, bytesRead));
    position += bytesRead;
  }
  if (versionOf(await file.stat({ bigint: true })) !== version) throw unknownWorkload('its program changed');
  return hash.digest('hex');
}

function versionOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join();
}
