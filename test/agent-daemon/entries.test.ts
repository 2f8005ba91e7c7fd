// When an agent asks for its entries.
import { setImmediate as aTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { EntriesKeeper } from '../../src/agent/daemon/entries.ts';
import { VouchError } from '../../src/core/errors.ts';
import { FakeClock } from '../fakes/clock.ts';

/** Runs one that knows its entries, has this happen after a minute, and tells after how many seconds it asked again. */
async function askedAfter(happens: (keeper: EntriesKeeper) => void): Promise<number> {
  const clock = new FakeClock();
  const stop = new AbortController();
  const asked: number[] = [];
  const keeper = new EntriesKeeper({
    ...{
      clock,
      signal: stop.signal,
      notice: () => undefined,
      took: () => undefined,
      accepted: () => undefined,
    },
    ask: () => {
      asked.push(clock.now());
      return Promise.resolve({ sequence: 7, entries: [] });
    },
    sleep: async (ms, signal) => {
      for (let left = ms; left > 0 && !signal.aborted; left -= 100) {
        clock.pass(Math.min(left, 100));
        await aTurn();
      }
    },
  });
  keeper.live(true);
  const running = keeper.run();
  while (clock.elapsedMs < 60_000) await aTurn();
  const [before, fromMs] = [asked.length, clock.now()];
  happens(keeper);
  while (asked.length === before) await aTurn();
  stop.abort();
  await running;
  return ((asked.at(-1) ?? 0) - fromMs) / 1000;
}

test('what every agent hears of at once is asked about in the half minute after it', async () => {
  const after = await Promise.all(Array.from({ length: 40 }, () => askedAfter((keeper) => keeper.forget())));
  expect(Math.max(...after)).toBeLessThan(36);
  for (const from of [0, 10, 20])
    expect(after.filter((seconds) => seconds >= from && seconds < from + 15).length).toBeGreaterThan(3);
});

test('what the server tells of, at once', async () => {
  expect(await askedAfter((keeper) => keeper.told(8))).toBeLessThan(1);
  const both = (keeper: EntriesKeeper): void => {
    keeper.forget();
    keeper.told(7);
  };
  expect(await askedAfter(both)).toBeLessThan(1);
});

test.each([
  ['denied-revoked', 1],
  ['unavailable-server', 0],
] as const)('whom the server answers again after %s is told %i times', async (code, times) => {
  const clock = new FakeClock();
  const stop = new AbortController();
  let [calls, accepted] = [0, 0];
  const keeper = new EntriesKeeper({
    ...{ clock, signal: stop.signal, notice: () => undefined, took: () => undefined },
    accepted: () => {
      accepted += 1;
    },
    ask: () => {
      calls += 1;
      if (calls === 4) stop.abort();
      return calls < 3 ? Promise.reject(new VouchError(code, 'no')) : Promise.resolve(undefined);
    },
    sleep: async (ms) => {
      clock.pass(ms);
      await aTurn();
    },
  });
  await keeper.run();
  expect(accepted).toBe(times);
});
