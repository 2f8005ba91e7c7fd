import { type Bed, type Check, Skipped } from './check.ts';
import { endpointChecks } from './endpoint-checks.ts';
import { jwtChecks } from './jwt-checks.ts';
import { x509Checks } from './x509-checks.ts';

export const checks: readonly Check[] = [...endpointChecks, ...x509Checks, ...jwtChecks];

/** What came of a check. */
export interface Result {
  id: string;
  cites: string;
  title: string;
  outcome: 'passed' | 'failed' | 'skipped';
  /** Why it failed or was skipped; '' otherwise. */
  why: string;
  differs: string;
}

/** Runs one after the other: what one does must not be what another sees. */
export async function runKit(bed: Bed, wanted: readonly Check[] = checks): Promise<Result[]> {
  const results: Result[] = [];
  for (const check of wanted) {
    const { id, cites, title, differs = '' } = check;
    results.push({ id, cites, title, differs, ...(await outcomeOf(check, bed)) });
  }
  return results;
}

async function outcomeOf(check: Check, bed: Bed): Promise<Pick<Result, 'outcome' | 'why'>> {
  try {
    await check.run(bed);
    return { outcome: 'passed', why: '' };
  } catch (error) {
    const outcome = error instanceof Skipped ? 'skipped' : 'failed';
    return { outcome, why: (error as Error).message.split('\n')[0] ?? '' };
  }
}
