import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { canChoosePids } from '../../support/unix-client.ts';

/** Of each kind. `VOUCH_MATRIX=1` makes 100,000 of them, which takes minutes. */
const tries = process.env.VOUCH_MATRIX === undefined ? 500 : 100_000;
let folder: string;

beforeAll(() => {
  execFileSync('scripts/build-native');
  folder = mkdtempSync(join(tmpdir(), 'vouch-r-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

test.runIf(canChoosePids).each(['pidfd', 'number'])(
  'who takes the number of a caller that has ended is never taken for it (held by %s)',
  (how) => {
    const script = fileURLToPath(new URL('reuse.ts', import.meta.url));
    const inside = [process.execPath, script, join(folder, how), String(tries), how];
    const alone = ['--pid', '--fork', '--mount-proc', '--kill-child'];
    const seen = JSON.parse(execFileSync('unshare', [...alone, ...inside], { encoding: 'utf8' })) as Record<
      string,
      number
    >;
    expect(seen.other, JSON.stringify(seen)).toBe(0);
    // It was tried: numbers were taken over, some of them while the process was being looked at; by number alone all are too young.
    expect(seen.taken).toBeGreaterThan(tries * 0.9);
    expect(how === 'pidfd' ? seen.refusedAfterwards : seen.refusedAtOnce).toBeGreaterThan(0);
  },
  600_000,
);
