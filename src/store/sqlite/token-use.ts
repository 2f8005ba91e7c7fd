import type { ReadStatements } from './read-statements.ts';
import type { StandingRow } from './rows.ts';

/** What a use of a join token got, or the last that took over from it: each a successor in its lineage with the same key. */
export function certificateOfUse(
  reads: Pick<ReadStatements, 'certificateOfTokenUse' | 'takeOver'>,
  tokenId: string,
  spkiSha256: string,
): StandingRow | undefined {
  let last = reads.certificateOfTokenUse.get(tokenId, spkiSha256);
  for (let next = last; next !== undefined; ) {
    last = next;
    next = reads.takeOver.get(last.lineage ?? last.serial, last.serial, spkiSha256);
  }
  return last;
}
