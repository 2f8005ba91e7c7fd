import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { hasHandler } from './workload.ts';

/** A process that starts writes its file then; btime has whole seconds and moves by one. */
const toleranceMs = 2000;
/** Clock ticks a second in what /proc says (USER_HZ). */
const ticksPerSecond = 100;

/**
 * Sends a signal to the process that a pid file names, and to nobody else: the file must be root's, ours or that process's
 * own, and the process must be older than the file, or it only has the number of one that has ended. Gives why not, or
 * undefined.
 */
export function signalByPidFile(
  path: string,
  signal: NodeJS.Signals,
  meantToEnd: readonly string[],
): string | undefined {
  const file = readPidFile(path);
  if (typeof file === 'string') return `${path} ${file}`;
  const { pid, ownerUid, writtenMs } = file;
  const found = processOf(pid);
  if (found === undefined) return `${path} names process ${pid}, which does not run`;
  if (ownerUid !== 0 && ownerUid !== process.geteuid?.() && ownerUid !== found.uid)
    return `${path} belongs to uid ${ownerUid} and names process ${pid} of uid ${found.uid}: it gets no signal by it`;
  if (found.startedMs > writtenMs + toleranceMs)
    return `${path} is older than process ${pid}, which must be another than it was written for; restart what it belongs to`;
  if (!meantToEnd.includes(signal) && !hasHandler(pid, signal))
    return `process ${pid} does not handle ${signal} yet`;
  try {
    process.kill(pid, signal);
    return undefined;
  } catch (error) {
    return `${signal} could not be sent to process ${pid}: ${(error as NodeJS.ErrnoException).code}`;
  }
}

function readPidFile(path: string): { pid: number; ownerUid: number; writtenMs: number } | string {
  let file: number;
  try {
    // Nobody's link to another's file, and nobody's pipe that blocks.
    file = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return 'is not there';
    return code === 'ELOOP' ? 'is a symbolic link' : `cannot be read (${code})`;
  }
  try {
    const stat = fstatSync(file);
    if (!stat.isFile()) return 'is not a file';
    if ((stat.mode & 0o022) !== 0) return 'can be written by others';
    const bytes = Buffer.alloc(64);
    const text = bytes.toString('latin1', 0, readSync(file, bytes, 0, bytes.length, 0));
    const pid = Number(/^\s*(\d{1,10})\s*?(?:\n|$)/.exec(text)?.[1]);
    if (!(pid > 0) || pid === process.pid) return 'holds no process number in its first line';
    return { pid, ownerUid: stat.uid, writtenMs: stat.mtimeMs };
  } finally {
    closeSync(file);
  }
}

/** By proc(5); undefined where there is no such process. */
function processOf(pid: number): { uid: number; startedMs: number } | undefined {
  try {
    const [, uid] = /^Uid:\t(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    // What follows the command in parentheses begins with field 3; starttime is field 22.
    const ticks = Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
    const [, bootSeconds] = /^btime (\d+)$/m.exec(readFileSync('/proc/stat', 'utf8')) ?? [];
    return { uid: Number(uid), startedMs: Number(bootSeconds) * 1000 + (ticks * 1000) / ticksPerSecond };
  } catch {
    return undefined;
  }
}
