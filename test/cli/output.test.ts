import { afterEach, expect, it } from 'vitest';
import { fail } from '../../src/cli/output.ts';
import { asVouchError, VouchError } from '../../src/core/errors.ts';

const write = process.stderr.write.bind(process.stderr);
afterEach(() => {
  process.stderr.write = write;
});

/** What a failure leaves on stderr. */
function said(json: boolean, thrown: unknown): { code: number; text: string } {
  let text = '';
  process.stderr.write = (chunk: string | Uint8Array): boolean => {
    text += String(chunk);
    return true;
  };
  return { code: fail({ json }, thrown), text };
}

it.each([
  ['as it was thrown', new Error('EBUSY: resource busy')],
  ['as a layer below made it', asVouchError(new Error('EBUSY: resource busy'))],
])('what nobody foresaw names its cause, %s: no server has it in a log', (_name, thrown) => {
  expect(said(false, thrown)).toEqual({ code: 1, text: 'vouch: internal error: EBUSY: resource busy\n' });
  expect(JSON.parse(said(true, thrown).text)).toMatchObject({
    code: 'internal',
    detail: 'internal error: EBUSY: resource busy',
  });
});

it('what the server answered stays as it is', () => {
  const answered = new VouchError('internal', 'internal error; the server log has the cause');
  expect(said(false, answered).text).toBe('vouch: internal error; the server log has the cause\n');
});
