import { rmSync } from 'node:fs';
import { join } from 'node:path';

/** Where a signer notes, in its folder, that the token refused its PIN, so that no start presents it again (I8). */
export function refusedPinFile(folder: string): string {
  return join(folder, 'pin-refused');
}

/** Forgets it, on an operator's word: the PIN is presented once more. */
export function forgetRefusedPin(folder: string): void {
  rmSync(refusedPinFile(folder), { force: true });
}
