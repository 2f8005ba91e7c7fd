import { open } from 'node:fs/promises';
import type { WorkloadAttestor } from '../attest.ts';
import { isUnmapped, unknownWorkload, type WorkloadPeer } from '../peer.ts';
import { nameFile } from './names.ts';
import { createHashes, pathOf } from './program.ts';

/**
 * Sees what the kernel knows of a process: `unix:uid`, `gid`, `supplementary_gid`, the same by name (`user`, `group`,
 * `supplementary_group`) where the files of the host have one, and of its program `unix:path` and `unix:sha256`.
 */
export function createUnixAttestor(options: { passwd?: string; group?: string } = {}): WorkloadAttestor {
  const users = nameFile(options.passwd ?? '/etc/passwd');
  const groups = nameFile(options.group ?? '/etc/group');
  const hash = createHashes();
  return {
    async look(peer) {
      const further = await furtherGroups(peer);
      const [userNames, groupNames] = await Promise.all([users(), groups()]);
      const named = (type: string, name: string | undefined) =>
        name === undefined ? [] : [`${type}:${name}`];
      return [
        `unix:uid:${peer.uid}`,
        ...named('unix:user', userNames.get(peer.uid)),
        `unix:gid:${peer.gid}`,
        ...named('unix:group', groupNames.get(peer.gid)),
        ...further.map((gid) => `unix:supplementary_gid:${gid}`),
        ...further.flatMap((gid) => named('unix:supplementary_group', groupNames.get(gid))),
      ];
    },
    dear: new Map([
      ['unix:path:', async (peer) => selector('unix:path', await pathOf(peer.pid))],
      ['unix:sha256:', async (peer) => selector('unix:sha256', await hash(peer))],
    ]),
  };
}

function selector(type: string, value: string | undefined): string | undefined {
  return value === undefined ? undefined : `${type}:${value}`;
}

/**
 * The supplementary groups of proc_pid_status(5). A process that is another user now than when it connected would mix
 * what two of them may: it has to connect again.
 */
async function furtherGroups(peer: WorkloadPeer): Promise<readonly number[]> {
  const status = await readProc(`/proc/${peer.pid}/status`).catch((cause: unknown) => {
    throw unknownWorkload('/proc does not tell of it', cause);
  });
  const numbers = (field: string) => {
    const line = new RegExp(`^${field}:([\\t \\d]*)$`, 'm').exec(status)?.[1];
    if (line === undefined) throw unknownWorkload(`/proc does not tell its ${field}`);
    return line.split(/\s+/).filter(Boolean).map(Number);
  };
  // Real, effective, saved, of the file system.
  if (numbers('Uid')[1] !== peer.uid || numbers('Gid')[1] !== peer.gid)
    throw unknownWorkload('its user or group changed since it connected');
  return numbers('Groups').filter((gid) => !isUnmapped(gid));
}

/** `readFile` takes 64 KiB for a file whose size nobody knows; most of these have one and a half. */
async function readProc(path: string): Promise<string> {
  const file = await open(path);
  try {
    const bytes = Buffer.allocUnsafeSlow(4096);
    for (let text = ''; ; ) {
      const { bytesRead } = await file.read(bytes, 0, bytes.length, null);
      if (bytesRead === 0) return text;
      text += bytes.toString('latin1', 0, bytesRead);
    }
  } finally {
    await file.close();
  }
}
