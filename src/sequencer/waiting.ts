import { VouchError } from '../core/errors.ts';
import type { AlreadyThere, Sequenced, Submission } from './submission.ts';

/** What becomes of a submission. */
export type Outcome = Sequenced | AlreadyThere | { status: 'recorded'; leafIndex: number };

/** A submission that somebody waits for. */
export interface Waiting {
  submission: Submission;
  resolve: (result: Outcome) => void;
  reject: (error: Error) => void;
}

/** A submission whose mutation is durable. */
export interface Committed extends Waiting {
  leafIndex: number;
}

/** Rejects it with `unavailable-signer` after `ms`, wherever it waits by then; `onLate` is called first. */
export function untilLate(waiting: Waiting, ms: number, onLate: () => void): void {
  const { resolve, reject } = waiting;
  const timer = setTimeout(() => {
    onLate();
    reject(late());
  }, ms);
  waiting.resolve = (result) => {
    clearTimeout(timer);
    resolve(result);
  };
  waiting.reject = (error) => {
    clearTimeout(timer);
    reject(error);
  };
}

/** The same of a promise: what it comes to later is dropped. */
export async function within<Value>(ms: number, value: Promise<Value>): Promise<Value> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = setTimeout(() => reject(late()), ms);
  try {
    return await Promise.race([value, promise]);
  } finally {
    clearTimeout(timer);
  }
}

function late(): VouchError {
  const detail = 'nothing was signed in time; try again (its operator: `vouch status` says why)';
  return new VouchError('unavailable-signer', detail, { retryAfterSeconds: 2 });
}
