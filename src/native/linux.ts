import { createRequire } from 'node:module';
import { isSea } from 'node:sea';
import { embeddedAddon } from './embedded.ts';

/** Calls of Linux that Node does not offer; src/native/*.c say what each throws. */
export interface LinuxAddon {
  /** Who connected a unix socket (SO_PEERCRED); pid 0 where the peer lives in another pid namespace. */
  peerCredentials(fd: number): { pid: number; uid: number; gid: number };
  /** A pidfd of the process that connected, for the caller to close; undefined where the kernel has no SO_PEERPIDFD. */
  peerPidfd(fd: number): number | undefined;
  pidfdIsAlive(pidfd: number): boolean;
  /** A key of this uid's user keyring; undefined where there is none. The error's `code` is the errno's name. */
  keyringRead(name: string): Buffer | undefined;
  /** 1 to 4096 bytes. The error's `code` is the errno's name: EPERM or ENOSYS where the keyring is not to be had. */
  keyringWrite(name: string, value: Buffer): void;
  /** Locks a file or folder for as long as `fd` is open (flock(2)); false where another descriptor has it. */
  tryLock(fd: number): boolean;
  /** No core file of this process, and nobody of its own user reads its memory, save with CAP_SYS_PTRACE (PR_SET_DUMPABLE). */
  hideMemory(): void;
  /** Gives free memory of the C heap back to the system, where the C library can (glibc). */
  trimHeap(): void;
}

let addon: LinuxAddon | undefined;

/** Loads the addon at the first call; throws where it is missing. */
export function linux(): LinuxAddon {
  addon ??= (isSea() ? embeddedAddon() : installedAddon()) as LinuxAddon;
  return addon;
}

/** The bundles stand in dist/, beside native/; the sources in src/native/. */
function installedAddon(): unknown {
  const file = import.meta.url.endsWith('.ts') ? '../../dist/native/linux.node' : './native/linux.node';
  return createRequire(import.meta.url)(file);
}
