import type * as z from 'zod/mini';

/** One thing wrong with a configuration, with its path. */
export interface ConfigProblem {
  path: string;
  problem: string;
}

/** All of them on one line. */
export function listed(problems: readonly ConfigProblem[]): string {
  return problems.map(({ path, problem }) => `${path}: ${problem}`).join('; ');
}

/** What the schema found, in words for an operator. An unknown key is named by itself: most are misspelt ones. */
export function problemsOf(issue: z.core.$ZodIssue): ConfigProblem[] {
  const at = (...more: readonly string[]): string =>
    [...issue.path.map(String), ...more].join('.') || '(top level)';
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map((key) => ({ path: at(key), problem: 'is not a key that is known here' }));
  return [{ path: at(), problem: problemText(issue) }];
}

/** A text that the schema brings stays; the library's own says no more than that the input is invalid. */
function problemText(issue: z.core.$ZodIssue): string {
  if (issue.message !== 'Invalid input') return issue.message;
  switch (issue.code) {
    case 'invalid_type':
      return `is missing, or not of type ${issue.expected}`;
    case 'too_small':
      return `must be ${issue.minimum} at least`;
    case 'too_big':
      return `must be ${issue.maximum} at most`;
    case 'invalid_value':
      return `must be one of ${issue.values.map(String).join(', ')}`;
    default:
      return 'is not well-formed';
  }
}
