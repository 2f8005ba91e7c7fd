import { readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** What a process of an authority is, told by its arguments. */
export type Role = 'server' | 'signer' | 'other';

/** A living process. One that has ended and waits to be collected has no arguments, and does not count. */
export interface Found {
  pid: number;
  role: Role;
}

/** Every process of this machine that has a path below `folder` among its arguments. */
export function processesOf(folder: string): Found[] {
  return readdirSync('/proc').flatMap((name) => {
    const pid = Number(name);
    if (!Number.isInteger(pid) || pid === process.pid) return [];
    const argv = argumentsOf(pid);
    if (!argv.some((argument) => argument.includes(`${folder}/`))) return [];
    const role = (['signer', 'server'] as const).find((verb) => argv.includes(verb)) ?? 'other';
    return [{ pid, role }];
  });
}

/** Ends one process; true where it was there to be ended. */
export function kill(pid: number): boolean {
  try {
    return process.kill(pid, 'SIGKILL');
  } catch {
    return false;
  }
}

/** Resolves with the milliseconds that it took `pid` to end by itself, or undefined where it did not in time. */
export async function ended(pid: number, folder: string, timeoutMs: number): Promise<number | undefined> {
  const started = performance.now();
  while (performance.now() - started < timeoutMs) {
    // The number may be another's by now.
    if (!argumentsOf(pid).some((argument) => argument.includes(`${folder}/`)))
      return performance.now() - started;
    await sleep(10);
  }
  return undefined;
}

function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return [];
  }
}
