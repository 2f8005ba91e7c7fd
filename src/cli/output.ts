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

/** A table without borders, each column as wide as its widest cell; says where a list goes on behind this page. */
export function table(
  head: readonly string[],
  rows: readonly (readonly string[])[],
  next: string | null = null,
): string {
  if (rows.length === 0) return 'none';
  const widths = head.map((name, at) =>
    rows.reduce((widest, row) => Math.max(widest, row[at]?.length ?? 0), name.length),
  );
  const lines = [head, ...rows].map((row) =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd(),
  );
  return [...lines, ...(next === null ? [] : [`(more: --after ${next})`])].join('\n');
}

const cellMax = 80;

/** Several values in one cell of a table: as many as leave the others room; of the first its beginning at least. */
export function listed(values: readonly string[]): string {
  const first = values[0] ?? '';
  let text = first.length > cellMax ? `${first.slice(0, cellMax - 1)}…` : first;
  for (const [at, value] of values.entries()) {
    if (at === 0) continue;
    if (text.length + value.length >= cellMax) return `${text} and ${values.length - at} more`;
    text += ` ${value}`;
  }
  return text;
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
