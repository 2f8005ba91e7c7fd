import { linux } from '../../native/linux.ts';

const soonMs = 2_000;
let timer: NodeJS.Timeout | undefined;

/**
 * Gives back what is free in the C heap of this process, once for all that happens within two seconds. nghttp2's part of
 * thousands of streams lies there, and what one rotation has taken would stay with the process for months. It takes
 * less than a millisecond.
 */
export function giveBackSoon(): void {
  timer ??= setTimeout(() => {
    timer = undefined;
    linux().trimHeap();
  }, soonMs).unref();
}
