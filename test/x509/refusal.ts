import { expect } from 'vitest';
import { type ErrorCode, VouchError } from '../../src/core/errors.ts';

/** The VouchError that a call throws; fails where it throws another or none. */
export function refusalOf(call: () => unknown): VouchError {
  try {
    call();
  } catch (error) {
    if (error instanceof VouchError) return error;
    throw error;
  }
  throw new Error('expected a refusal');
}

/** Asserts the code and a part of the detail. */
export function expectRefusal(call: () => unknown, code: ErrorCode, detail: string | RegExp = ''): void {
  const refusal = refusalOf(call);
  expect({ code: refusal.code, detail: refusal.detail }).toEqual({
    code,
    detail: expect.stringMatching(detail) as unknown,
  });
}
