import { afterEach, describe, expect, it } from 'vitest';
import { fail, listed, table } from '../../src/cli/output.ts';
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

describe('a table', () => {
  it('has columns as wide as their widest cell, and says where the list goes on', () => {
    expect(
      table(
        ['A', 'LONG', ''],
        [
          ['abc', '', 'x'],
          ['d', 'e', ''],
        ],
        'e_1',
      ),
    ).toBe('A    LONG\nabc        x\nd    e\n(more: --after e_1)');
    expect(table(['A'], [])).toBe('none');
  });

  it('of a thousand rows beside a cell of thousands of characters is made at once', () => {
    const rows = Array.from({ length: 1000 }, (_, at) => [`e_${at}`, at === 500 ? 'x'.repeat(7000) : 'y']);
    const times = [1, 2, 3].map(() => {
      const from = performance.now();
      table(['ENTRY', 'SELECTORS'], rows);
      return performance.now() - from;
    });
    expect(Math.min(...times)).toBeLessThan(100);
  });

  it('has of many values in a cell as many as there is room for', () => {
    expect(listed([])).toBe('');
    expect(listed(['unix:uid:1', 'unix:gid:2'])).toBe('unix:uid:1 unix:gid:2');
    const long = `unix:sha256:${'0'.repeat(64)}`;
    expect(listed([long, 'unix:uid:1', 'unix:gid:2'])).toBe(`${long} and 2 more`);
    expect(listed([long + long])).toBe(`${(long + long).slice(0, 79)}…`);
  });
});
