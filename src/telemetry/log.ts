import pino from 'pino';
import { VouchError } from '../core/errors.ts';
import { redacted } from '../core/redacted.ts';

/** Fields of one log line. Secrets have no place here; names that could hold one are redacted all the same. */
export type LogFields = Readonly<Record<string, unknown>>;

/** Structured log: one JSON object a line. */
export interface Log {
  debug(fields: LogFields, message: string): void;
  info(fields: LogFields, message: string): void;
  warn(fields: LogFields, message: string): void;
  error(fields: LogFields, message: string): void;
}

const secretNames = ['token', 'pin', 'key', 'secret', 'authorization', 'evidence', 'joinFile', 'password'];

/** A log on standard error, so that standard output stays the program's answer. */
export function openLog(level: string): Log {
  return pino(
    {
      level,
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      redact: { paths: secretNames.flatMap((name) => [name, `*.${name}`]), censor: '[redacted]' },
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: 2, sync: true }),
  );
}

/** What of an error goes into the log: code and detail, and the whole chain of causes, which peers never see. */
export function errorFields(error: unknown): LogFields {
  if (!(error instanceof Error)) return { error: redacted(String(error)) };
  const code = error instanceof VouchError ? { code: error.code } : {};
  const cause = error.cause === undefined ? {} : { cause: errorFields(error.cause) };
  const stack = error instanceof VouchError ? {} : { stack: redacted(error.stack ?? '') };
  return { ...code, error: redacted(error.message), ...cause, ...stack };
}
