import { type ErrorCode, VouchError } from '../core/errors.ts';

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
  if (json)
    output.stderr(
      `${JSON.stringify({ type: `urn:vouch:problem:${code}`, title: titleOf(code), code, detail })}\n`,
    );
  else output.stderr(`vouch: ${detail} [${code}]\n`);
  return exitCodeOf(code);
}

function titleOf(code: ErrorCode): string {
  if (code.startsWith('usage-')) return 'The command line is wrong';
  if (code.startsWith('unavailable-')) return 'Try again later';
  if (code.startsWith('config-')) return 'Something here must be set right first';
  if (code === 'internal') return 'Internal error';
  return 'Refused';
}

function stackOf(thrown: unknown): string {
  return thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
}
