import type { MutationOutcome } from '../port.ts';

/** What a writer says: done, or why not. It may also throw a VouchError, which is a refusal with that code. */
export type Written = undefined | Exclude<MutationOutcome, { status: 'committed' }>;
