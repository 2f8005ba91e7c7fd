import { VouchError } from '../core/errors.ts';
import type { Mutation, Store } from './port.ts';

/**
 * Commits mutations where no server runs: init, restore. Resolves with their leaf indices, in order; rejects with what
 * the first one was refused with.
 */
export async function commitAll(store: Store, mutations: readonly Mutation[]): Promise<number[]> {
  const outcomes = await store.commitBatch(mutations, { signatures: [], checkpointNote: undefined });
  return outcomes.map((outcome) => {
    if (outcome.status === 'committed') return outcome.leafIndex;
    throw new VouchError(
      'unavailable-store',
      outcome.status === 'refused' ? outcome.detail : 'the state holds this already',
    );
  });
}
