import { expect, test } from 'vitest';
import { Waits } from '../../src/revocation/waits.ts';
import { systemClock } from '../../src/core/clock.ts';

test('all that is waited for ends at once, however many wait', async () => {
  const waits = new Waits(systemClock);
  const pauses = [60_000, 50, 60_000].map((ms) => waits.pause(ms));
  await pauses[1];
  const all = Promise.all(pauses).then(() => 'ended');
  waits.end();
  const late = new Promise((resolve) => setTimeout(resolve, 5_000, 'late').unref());
  expect(await Promise.race([all, late])).toBe('ended');
  await waits.pause(60_000);
});
