import type { RequestHandler } from 'express';
import * as z from 'zod/mini';
import { VouchError } from '../core/errors.ts';

/** A body by its schema, unknown keys refused. Throws `request-malformed` that names the first problem's path. */
export function parseBody<S extends z.ZodMiniType>(schema: S, body: unknown): z.output<S> {
  const parsed = z.safeParse(schema, body);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const where = issue?.path.map(String).join('.') || 'the body';
  throw new VouchError(
    'request-malformed',
    `${where.slice(0, 80)}: ${issue?.code === 'unrecognized_keys' ? 'has a key that is not known here' : describe(issue?.code)}`,
  );
}

/**
 * Middleware: 413 by the announced length, at once. The body parser would read the whole of it before it answers; for
 * what comes in chunks it still does, within the request's time-out.
 */
export function refuseTooLarge(maxBytes: number): RequestHandler {
  return (request, _response, next) => {
    if (Number(request.get('content-length') ?? 0) > maxBytes)
      throw new VouchError(
        'request-too-large',
        `the body is larger than the ${maxBytes} bytes this path takes`,
      );
    next();
  };
}

function describe(code: string | undefined): string {
  switch (code) {
    case 'invalid_type':
      return 'is missing or of another type';
    case 'too_big':
      return 'is too large';
    case 'too_small':
      return 'is too small';
    default:
      return 'is not well-formed';
  }
}
