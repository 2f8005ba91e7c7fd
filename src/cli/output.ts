import Table from 'cli-table3';
import { asVouchError, VouchError } from '../core/errors.ts';
import { problemOf } from '../core/problem.ts';
import { redacted } from '../core/redacted.ts';

/** How a verb answers: tables and sentences for people, one JSON object for programs. */
export interface Output {
  json: boolean;
}

/**
 * Prints the answer: the object itself with `--json`, otherwise what `people` makes of it. To `stream` where standard
 * output is taken by something else.
 */
export function answer<T extends object>(
  output: Output,
  result: T,
  people: (result: T) => string,
  stream: NodeJS.WritableStream = process.stdout,
): void {
  stream.write(`${output.json ? JSON.stringify(result) : people(result)}\n`);
}

/** A table without borders, as wide as its content. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return 'none';
  const none = {
    top: '',
    'top-mid': '',
    'top-left': '',
    'top-right': '',
    bottom: '',
    'bottom-mid': '',
    'bottom-left': '',
    'bottom-right': '',
  };
  const lines = {
    left: '',
    'left-mid': '',
    mid: '',
    'mid-mid': '',
    right: '',
    'right-mid': '',
    middle: '  ',
  };
  const made = new Table({
    head: [...head],
    chars: { ...none, ...lines },
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0, compact: true },
  });
  for (const row of rows) made.push([...row]);
  return made.toString().replaceAll(/ +$/gm, '');
}

/** `name: value` lines with the values aligned. */
export function fields(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length));
  return pairs.map(([name, value]) => `${name.padEnd(width)}  ${value}`).join('\n');
}

/** Exit codes of the command line (DESIGN.md section 7). */
export const exitCodes = { done: 0, failed: 1, usage: 2, tryAgain: 75, configuration: 78 } as const;

/** Reports a failure on standard error, problem+json with `--json`, and returns the exit code. */
export function fail(output: Output, thrown: unknown): number {
  const error = withCause(asVouchError(thrown));
  const text = output.json ? JSON.stringify(problemOf(error, 'operator')) : `vouch: ${error.detail}`;
  process.stderr.write(`${redacted(text)}\n`);
  return exitCodeOf(error);
}

/** What nobody foresaw in this process stands in no server's log. */
function withCause(error: VouchError): VouchError {
  const { code, cause } = error;
  if (code !== 'internal' || !(cause instanceof Error)) return error;
  return new VouchError(code, `internal error: ${cause.message}`, { cause });
}

/** The exit code of a failure. */
function exitCodeOf(error: VouchError): number {
  if (error.code.startsWith('usage-')) return exitCodes.usage;
  if (error.code.startsWith('config-')) return exitCodes.configuration;
  if (error.code.startsWith('unavailable-')) return exitCodes.tryAgain;
  return exitCodes.failed;
}
