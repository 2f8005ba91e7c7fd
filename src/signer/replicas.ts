import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { VouchError } from '../core/errors.ts';
import type { HsmConfig } from './hsm.ts';

/**
 * The address of the token for this life of the signer: the first, and after a life that did not open it the next of
 * its replicas. A process tries one only: a module that hangs takes its process along, so which comes next is written
 * to `file` before, and forgotten when `opened` is called. Throws `config-state` where it cannot be written.
 */
export function nextAddress(hsm: HsmConfig, file: string): { hsm: HsmConfig; opened: () => void } {
  const { replicas = [], ...first } = hsm;
  if (replicas.length === 0) return { hsm, opened: () => undefined };
  const addresses: HsmConfig[] = [first, ...replicas];
  const index = written(file) % addresses.length;
  note(file, (index + 1) % addresses.length);
  return { hsm: addresses[index] ?? first, opened: () => rmSync(file, { force: true }) };
}

/** 0 for a file that is not there or says nothing: it is a hint only. */
function written(file: string): number {
  try {
    const text = readFileSync(file, 'utf8').trim();
    return /^\d{1,4}$/.test(text) ? Number(text) : 0;
  } catch {
    return 0;
  }
}

function note(file: string, index: number): void {
  try {
    writeFileSync(file, `${index}\n`, { mode: 0o600 });
  } catch (cause) {
    throw new VouchError('config-state', `the signer cannot write ${file}; is the disk full?`, { cause });
  }
}
