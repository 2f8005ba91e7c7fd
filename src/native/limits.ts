import { readFileSync } from 'node:fs';

/** RLIMIT_NOFILE as the kernel tells it (proc(5)). */
export function openFilesLimit(): number {
  const soft = /^Max open files\s+(\d+)/m.exec(limits())?.[1];
  return soft === undefined ? Number.POSITIVE_INFINITY : Number(soft);
}

/** What to say where this process could leave a core file with its secrets (I8); only who starts it can forbid that. */
export function coreDumpsProblem(): string | undefined {
  return /^Max core file size\s+[1-9u]/m.test(limits())
    ? 'core dumps are on; set LimitCORE=0 in the unit, or ulimit -c 0'
    : undefined;
}

/** Empty where the kernel does not tell. */
function limits(): string {
  try {
    return readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return '';
  }
}
