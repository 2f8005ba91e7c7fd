/** The outcome of a campaign. */
export interface Result {
  /** What `--json` prints. */
  counts: {
    kills: number;
    acked: number;
    lost: number;
    duplicates: number;
    orphans: number;
    regressions: number;
    recoverMsP99: number;
  };
  revoked: number;
  /** What is wrong and none of the four kinds: a process that stays, an answer that no healthy server gives. */
  faults: number;
  recoverMsMedian: number;
  /** Why it failed; empty where it passed. */
  problems: string[];
}

/** The summary for people. */
export function summary(
  { counts, revoked, faults, recoverMsMedian, problems }: Result,
  seed: number,
): string {
  const { kills, acked, lost, duplicates, orphans, regressions, recoverMsP99 } = counts;
  return [
    `${kills} kills (seed ${seed}): ${acked} certificates and ${revoked} revocations were acknowledged`,
    `lost ${lost}, duplicates ${duplicates}, orphans ${orphans}, regressions ${regressions}, other faults ${faults}`,
    `back after ${recoverMsMedian} ms (median), ${recoverMsP99} ms (p99)`,
    problems.length === 0 ? 'passed' : `FAILED: ${problems.join('; ')}`,
    '',
  ].join('\n');
}

/** Nearest rank; 0 of none. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(sorted.length * share) - 1] ?? 0;
}
