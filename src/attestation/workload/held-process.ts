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

/** Ticks of the times in /proc, in a second (USER_HZ). */
const ticks = 100;
/** No connection waits so long to be accepted. */
const leastAgeMs = 1_000;

/**
 * The process that has this number now. Its open folder in /proc stays that process's: once it has ended nothing is
 * found there, whoever has the number then. Who took the number over between connect() and now is younger than the
 * connection: one that has just started is refused, and is to connect again.
 */
export function holdByNumber(_fd: number, pid: number, leastMs = leastAgeMs): HeldProcess {
  const folder = openSync(`/proc/${pid}`, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    if (ageMs(`/proc/self/fd/${folder}`) < leastMs)
      throw new Error('it has just started, and this kernel cannot tell it from who had its number before');
  } catch (error) {
    closeSync(folder);
    throw error;
  }
  return { isAlive: () => isRunning(`/proc/self/fd/${folder}`), close: () => closeSync(folder) };
}

function ageMs(folder: string): number {
  const started = Number(fieldsOf(folder)[19]) / ticks;
  const now = Number.parseFloat(readFileSync('/proc/uptime', 'latin1'));
  return (now - started) * 1000;
}

/** proc_pid_stat(5) from the state on, which is its third: the name before it may itself hold spaces and parentheses. */
function fieldsOf(folder: string): string[] {
  const stat = readFileSync(`${folder}/stat`, 'latin1');
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function isRunning(folder: string): boolean {
  try {
    return !/^[ZXx]/.test(fieldsOf(folder)[0] ?? 'X');
  } catch {
    return false;
  }
}
