import { readFileSync, readlinkSync } from 'node:fs';
import type { Socket } from 'node:net';
import { VouchError } from '../../core/errors.ts';
import { descriptorOf } from '../../native/descriptor.ts';
import { linux } from '../../native/linux.ts';
import { type HeldProcess, holdPeer } from './held-process.ts';

/** The process that connected a unix socket. Whoever was handed the socket since counts as that process. */
export interface WorkloadPeer {
  readonly pid: number;
  /** Effective, as the kernel recorded them at connect(). */
  readonly uid: number;
  readonly gid: number;
  /**
   * False once the process has ended, runs another program than when it was accepted, or `close` was called. What was
   * read of /proc/<pid> before a call that says true was this process's own.
   */
  isAlive(): boolean;
  /** Gives back the descriptor that holds the process; may be called again. */
  close(): void;
}

/**
 * The peer of a unix socket that was just accepted; one descriptor is open until `close`. Throws denied-workload where
 * the kernel cannot tell: no unix socket, closed, a process that has ended or lives in another pid namespace, or
 * (before Linux 6.5) has started within the last second.
 */
export function workloadPeer(
  socket: Socket,
  hold: (fd: number, pid: number) => HeldProcess = holdPeer,
): WorkloadPeer {
  const fd = descriptorOf(socket);
  if (fd === undefined) throw unknownWorkload('the connection is closed');
  try {
    const { pid, uid, gid } = linux().peerCredentials(fd);
    if (pid <= 0) throw unknownWorkload('it lives in another pid namespace');
    if (isUnmapped(uid) || isUnmapped(gid))
      throw unknownWorkload('its user has no number in this user namespace');
    return new Peer({ pid, uid, gid }, hold(fd, pid));
  } catch (cause) {
    if (cause instanceof VouchError) throw cause;
    throw unknownWorkload('the kernel does not tell, or the process has ended', cause);
  }
}

class Peer implements WorkloadPeer {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  readonly #program: string | undefined;
  #process: HeldProcess | undefined;

  constructor(who: { pid: number; uid: number; gid: number }, process: HeldProcess) {
    this.pid = who.pid;
    this.uid = who.uid;
    this.gid = who.gid;
    this.#process = process;
    this.#program = programOf(who.pid);
    if (this.isAlive()) return;
    this.close();
    throw unknownWorkload('the process has ended');
  }

  isAlive(): boolean {
    // In this order: while the process lives its number is its own.
    return programOf(this.pid) === this.#program && this.#process?.isAlive() === true;
  }

  close(): void {
    this.#process?.close();
    this.#process = undefined;
  }
}

/** Reads the link alone, not the file: that may lie in a file system of the workload's own that never answers. */
function programOf(pid: number): string | undefined {
  try {
    // A program that is replaced on disk goes on.
    return readlinkSync(`/proc/${pid}/exe`).replace(/ \(deleted\)$/, '');
  } catch {
    return undefined;
  }
}

/** In a user namespace the kernel shows every user that has no number there as this one ("nobody"). */
const overflowId = 65_534;
let isWholeNamespace: boolean | undefined;

/** Whether a uid or gid is no number of anybody's: a user that has none in the agent's own user namespace. */
export function isUnmapped(id: number): boolean {
  if (id !== overflowId) return false;
  isWholeNamespace ??= ['uid_map', 'gid_map'].every((map) =>
    /^\s*0\s+0\s+4294967295\s*$/.test(readFileSync(`/proc/self/${map}`, 'latin1')),
  );
  return !isWholeNamespace;
}

/** The failure of a workload that is not recognised; `why` is for the agent's log. */
export function unknownWorkload(why: string, cause?: unknown): VouchError {
  return new VouchError('denied-workload', `the workload behind this connection is unknown: ${why}`, {
    cause,
  });
}
