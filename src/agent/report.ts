import { type ErrorCode, VouchError } from '../core/errors.ts';
import { problemOf } from '../core/problem.ts';
import { redacted } from '../core/redacted.ts';

/** Where a verb writes. */
export interface Output {
  stdout(text: string): void;
  stderr(text: string): void;
}

/** The process's own streams. */
export const processOutput: Output = {
  stdout: (text) => void process.stdout.write(text),
  stderr: (text) => {
    // Whoever stops reading it loses what is said; a certificate that nobody renews would be the greater loss.
    if (process.stderr.listenerCount('error') === 0) process.stderr.on('error', () => undefined);
    process.stderr.write(text);
  },
};

/** Exit codes of the contract: 1 refused or failed, 2 usage, 75 try again later, 78 configuration. */
function exitCodeOf(code: ErrorCode): number {
  if (code.startsWith('usage-')) return 2;
  if (code.startsWith('unavailable-')) return 75;
  if (code.startsWith('config-')) return 78;
  return 1;
}

/**
 * Says on stderr what failed, as a line or with `json` as problem+json, and returns the exit code. What is no
 * VouchError is a mistake of ours: its stack is what a bug report needs.
 */
export function reportFailure(thrown: unknown, json: boolean, output: Output): number {
  const error =
    thrown instanceof VouchError
      ? thrown
      : new VouchError('internal', `internal error: ${stackOf(thrown)}`, { cause: thrown });
  const { code, detail } = error;
  output.stderr(
    `${redacted(json ? JSON.stringify(problemOf(error, 'operator')) : `vouch: ${detail} [${code}]`)}\n`,
  );
  return exitCodeOf(code);
}

function stackOf(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}
