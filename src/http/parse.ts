import express, { type RequestHandler } from 'express';
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

/** Most of `,`, `[` and `{` in a body; the largest request that we take has a quarter of them. */
const marksMax = 8192;
const marks = Buffer.from(',[{');

/** Middleware: a JSON body of at most `maxBytes`. Nobody who enrolls compresses, and what is not inflated is no bomb. */
export function jsonUpTo(maxBytes: number): RequestHandler[] {
  return [
    refuseTooLarge(maxBytes),
    express.json({ limit: maxBytes, strict: true, inflate: false, verify: refuseManyValues }),
  ];
}

/** A megabyte of nothing but brackets takes a hundred times as long to parse as one of strings. */
function refuseManyValues(_request: unknown, _response: unknown, body: Buffer, encoding: string): void {
  if (encoding !== 'utf-8') throw new VouchError('request-malformed', 'JSON is UTF-8 (RFC 8259 §8.1)');
  let left = marksMax;
  for (const mark of marks)
    for (let at = body.indexOf(mark); at >= 0; at = body.indexOf(mark, at + 1))
      if (--left < 0) throw new VouchError('request-malformed', 'the body has more values than any request');
}

/**
 * Middleware: 413 by the announced length, at once. The body parser would read the whole of it before it answers; for
 * what comes in chunks it still does, within the request's time-out.
 */
function refuseTooLarge(maxBytes: number): RequestHandler {
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
