import { setImmediate as aTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { Latest } from '../../src/agent/daemon/latest.ts';

test('what is wanted at once does not wait for the pause after the last', async () => {
  const stop = new AbortController();
  let done = 0;
  const latest = new Latest(
    1000,
    async () => {
      done += 1;
    },
    {
      signal: stop.signal,
      sleep: (_ms, signal) => new Promise((resolve) => signal.addEventListener('abort', () => resolve())),
    },
  );
  latest.want();
  latest.want();
  await aTurn();
  expect(done).toBe(1);
  latest.want({ atOnce: true });
  await aTurn();
  expect(done).toBe(2);
  stop.abort();
  await latest.done();
});
