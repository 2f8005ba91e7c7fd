import { readFileSync } from 'node:fs';
import type { SignerLog } from './signer-log.ts';

/** Says so where this process could leave a core file with the PIN in it (I8): only who starts it can forbid that. */
export function warnOfCoreDumps(log: SignerLog): void {
  let limits: string;
  try {
    limits = readFileSync('/proc/self/limits', 'utf8');
  } catch {
    return;
  }
  if (/^Max core file size\s+0\s/m.test(limits)) return;
  log('warn', 'core dumps are on; set LimitCORE=0 in the unit, or ulimit -c 0');
}
