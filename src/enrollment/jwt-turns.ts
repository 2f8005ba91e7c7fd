import type { Clock } from '../core/clock.ts';
import { VouchError } from '../core/errors.ts';
import { Turns } from '../jobs/turns.ts';

/** A slow token signs so many well within the signer's deadline. */
const atOnceMax = 32;
/** An agent does not wait for an answer much longer. */
const waitMaxMs = 8000;

/** Of the agents that ask for JWT-SVIDs, of which `waitingMax` may wait. */
export function jwtTurns(waitingMax: number, clock: Pick<Clock, 'monotonicMs'>): Turns {
  const detail =
    'agents ask for more tokens than can be signed now, this one for most of them or for long; try again';
  return new Turns({
    ...{ atOnce: Math.min(atOnceMax, waitingMax), waitingMax, waitMaxMs, clock },
    refusal: () =>
      new VouchError('unavailable-overloaded', detail, { retryAfterSeconds: 1 + Math.random() * 4 }),
  });
}
