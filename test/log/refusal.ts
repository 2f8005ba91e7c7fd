import { expect } from 'vitest';
import type { ErrorCode } from '../../src/core/errors.ts';

/** Matches a VouchError of `code` whose detail contains `text`. */
export function refusal(code: ErrorCode, text = ''): unknown {
  const message: unknown = expect.stringContaining(text);
  return expect.objectContaining({ name: 'VouchError', code, message }) as unknown;
}
