import { closeSync, constants, openSync, readFileSync } from 'node:fs';
import { linux } from '../../native/linux.ts';

/** One process, whatever becomes of its number. */
export interface HeldProcess {
  /** False from the moment on at which it has ended, though nobody waited for it yet. */
  isAlive(): boolean;
  close(): void;
}

/** The process that connected the unix socket `fd`: the kernel's own record of it where it gives that (Linux 6.5). */
export function holdPeer(fd: number, pid: number): HeldProcess {
  const pidfd = linux().peerPidfd(fd);
  if (pidfd === undefined) return holdByNumber(fd, pid);
  return { isAlive: () => linux().pidfdIsAlive(pidfd), close: () => closeSync(pidfd) };
}

/**
 * The process that has this number now. Its open folder in /proc stays that process's: once it has ended nothing is
 * found there, whoever has the number then. What this cannot see is a number that was taken over between connect() and
 * now: kernels without SO_PEERPIDFD leave that open.
 */
export function holdByNumber(_fd: number, pid: number): HeldProcess {
  const folder = openSync(`/proc/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY);
  return { isAlive: () => isRunning(`/proc/self/fd/${folder}`), close: () => closeSync(folder) };
}

function isRunning(folder: string): boolean {
  try {
    const stat = readFileSync(`${folder}/stat`, 'latin1');
    // proc_pid_stat(5): the state follows the name, which may itself hold spaces and parentheses.
    return !/^[ZXx]/.test(stat.slice(stat.lastIndexOf(')') + 2));
  } catch {
    return false;
  }
}
