import { rmSync } from 'node:fs';
import { join } from 'node:path';

/** Where a signer notes that the token refused its PIN, so that no start presents it again (I8). */
export function refusedPinFile(signerFolder: string): string {
  return join(signerFolder, 'pin-refused');
}

/** Forgets it, on an operator's word: the PIN is presented once more. */
export function forgetRefusedPin(signerFolder: string): void {
  rmSync(refusedPinFile(signerFolder), { force: true });
}
