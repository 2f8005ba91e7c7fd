import { readFileSync } from 'node:fs';

/** Names this boot of the machine (proc(5)), whose monotonic clock is one; a new name each time where none can be read. */
export function bootId(): string {
  try {
    return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  } catch {
    return crypto.randomUUID();
  }
}
