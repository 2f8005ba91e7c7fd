import { setTimeout as sleep } from 'node:timers/promises';
import { Watchers } from '../watchers.ts';
import type { Bed } from './bed.ts';

/** Streams that are open at once, each of an identity of its own. */
const agents = 1_000;
/** The next revocation is not one that the fan-out of this one is in the way of. */
const pauseMs = 300;

/** Milliseconds from the operator's request until each simulated agent heard of a CRL that has the serial. */
export async function measurePush(bed: Bed, rounds: number): Promise<number[]> {
  const { enrollmentUrl } = bed.made;
  const watchers = await Watchers.open(enrollmentUrl, await bed.enroll('agent', agents));
  const measured: number[] = [];
  for (const { serial } of await bed.enroll('pushed', rounds)) {
    const { startMs, answered } = bed.revoke(serial);
    const { crlNumber } = await answered;
    if (crlNumber === null) throw new Error('a revocation was not published in time');
    // A delta comes first where the full CRL is large.
    const times = await Promise.any([watchers.heard('delta', crlNumber), watchers.heard('full', crlNumber)]);
    measured.push(...times.map((time) => time - startMs));
    await sleep(pauseMs);
  }
  if (watchers.lost > 0) throw new Error(`${watchers.lost} streams ended`);
  watchers.close();
  return measured;
}
