import { createHash } from 'node:crypto';
import type { BigIntStats } from 'node:fs';
import { type FileHandle, open, readlink, stat } from 'node:fs/promises';
import { type Clock, systemClock } from '../../../core/clock.ts';
import { unknownWorkload, type WorkloadPeer } from '../peer.ts';
import { Turns } from './turns.ts';

/** A larger program has no hash: reading it would keep others waiting. */
const programMaxBytes = 1024 * 1024 * 1024;
/** Hashed in one turn of the event loop: 0.3 ms. */
const sliceBytes = 256 * 1024;
const keptHashes = 1_000;
/** A file can change again within the grain of its times (2 s on the coarsest): until then its hash is not kept. */
const restlessMs = 2_000;

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
 * may not read it. A file is read once while it stays as it is; one at a time, others wait, by turns of their users.
 */
export function createHashes(
  clock: Clock = systemClock,
  maxBytes = programMaxBytes,
): (peer: Pick<WorkloadPeer, 'pid' | 'uid'>) => Promise<string | undefined> {
  const kept = new Map<string, string>();
  const underWay = new Map<string, Promise<string | undefined>>();
  const turns = new Turns();

  const keep = (version: string, hash: string): void => {
    kept.set(version, hash);
    const [oldest] = kept.keys();
    if (kept.size > keptHashes && oldest !== undefined) kept.delete(oldest);
  };

  return async ({ pid, uid }) => {
    const runs = await statProgram(pid);
    if (runs === undefined || runs.size > BigInt(maxBytes)) return undefined;
    const version = versionOf(runs);
    const known = kept.get(version);
    if (known !== undefined) return known;
    const isSettled = Math.abs(clock.now() - Number(runs.ctimeMs)) > restlessMs;
    // Shared by processes of one user only: another would wait for all that this one has brought.
    const shared = `${uid} ${version}`;
    for (let other = underWay.get(shared); other !== undefined; other = underWay.get(shared)) {
      const found = await other.catch(() => undefined);
      if (found !== undefined) return found;
      // The process that it was looked at through may have ended: that says nothing of this one.
    }
    // Opened when its turn comes: who waits holds no descriptor.
    const hash = turns.take(uid, async () => kept.get(version) ?? (await hashProgram(pid, version)));
    if (!isSettled) return hash;
    underWay.set(shared, hash);
    try {
      const found = await hash;
      if (found !== undefined) keep(version, found);
      return found;
    } finally {
      underWay.delete(shared);
    }
  };
}

async function statProgram(pid: number): Promise<BigIntStats | undefined> {
  try {
    return (await isBelieved(pid)) ? await stat(`/proc/${pid}/exe`, { bigint: true }) : undefined;
  } catch {
    return undefined;
  }
}

/** Undefined where it cannot be opened. Throws denied-workload where it is another by now. */
async function hashProgram(pid: number, version: string): Promise<string | undefined> {
  const file = await open(`/proc/${pid}/exe`, 'r').catch(() => undefined);
  try {
    return file && (await hashFile(file, version));
  } finally {
    await file?.close();
  }
}

/** Throws denied-workload where the file changed meanwhile. */
async function hashFile(file: FileHandle, version: string): Promise<string> {
  const assertSame = async (): Promise<void> => {
    if (versionOf(await file.stat({ bigint: true })) !== version)
      throw unknownWorkload('its program changed');
  };
  await assertSame();
  const hash = createHash('sha256');
  const slice = Buffer.allocUnsafe(sliceBytes);
  for (let position = 0; ; ) {
    const { bytesRead } = await file.read(slice, 0, sliceBytes, position);
    if (bytesRead === 0) break;
    hash.update(slice.subarray(0, bytesRead));
    position += bytesRead;
  }
  await assertSame();
  return hash.digest('hex');
}

function versionOf({ dev, ino, size, mtimeNs, ctimeNs }: BigIntStats): string {
  return [dev, ino, size, mtimeNs, ctimeNs].join();
}
