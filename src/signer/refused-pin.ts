import { rmSync } from 'node:fs';
import { join } from 'node:path';

/** Where a signer notes that the token refused its PIN, so that no start presents it again (I8). */
export function refusedPinFile(stateDir: string): string {
  return join(stateDir, 'signer', 'pin-refused');
}

/** Forgets it, on an operator's word: the PIN is presented once more. */
export function forgetRefusedPin(stateDir: string): void {
  rmSync(refusedPinFile(stateDir), { force: true });
}
