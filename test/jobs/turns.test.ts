import { expect, it } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { Turns } from '../../src/jobs/turns.ts';
import { codeOf } from '../invariants/support/refusal.ts';

const refusal = (): VouchError => new VouchError('unavailable-overloaded', 'too much');

/** Turns by a clock that the test moves, with what began and a way to let each end. */
function turnsOf(limits: { atOnce: number; waitingMax: number }) {
  const clock = { nowMs: 0, monotonicMs: () => clock.nowMs };
  const turns = new Turns({ ...limits, waitMaxMs: 8000, clock, refusal });
  const begun: { owner: string; end: () => void }[] = [];
  const ask = (owner: string, times = 1) =>
    Array.from({ length: times }, () =>
      codeOf(() => turns.within(owner, () => new Promise<void>((end) => void begun.push({ owner, end })))),
    );
  const settled = () => new Promise((turn) => setImmediate(turn));
  const endAll = async () => {
    for (const { end } of begun.splice(0)) end();
    await settled();
  };
  return { ask, begun, clock, endAll, settled };
}

it('two who ask for hundreds keep a third from nothing: it is served with the next', async () => {
  const { ask, begun, endAll, settled } = turnsOf({ atOnce: 4, waitingMax: 8 });
  const greedy = [...ask('a', 100), ...ask('b', 100)];
  const third = ask('c', 2);
  await settled();
  expect(begun.map(({ owner }) => owner)).toEqual(['a', 'a', 'a', 'a']);
  await endAll();
  expect(begun.map(({ owner }) => owner)).toContain('c');
  while (begun.length > 0) await endAll();
  const refused = (await Promise.all(greedy)).filter((code) => code === 'unavailable-overloaded');
  expect(await Promise.all(third)).not.toContain('unavailable-overloaded');
  // Four in progress and eight that wait, two of them the third's.
  expect(refused).toHaveLength(200 - 4 - 6);
});

it('who has waited too long is refused at its turn, and takes nobody else’s', async () => {
  const { ask, begun, clock, endAll, settled } = turnsOf({ atOnce: 1, waitingMax: 8 });
  const [first, late] = ask('a', 2);
  await settled();
  clock.nowMs = 8001;
  const [fresh] = ask('b');
  await endAll();
  expect(await late).toBe('unavailable-overloaded');
  expect(begun.map(({ owner }) => owner)).toEqual(['b']);
  await endAll();
  expect([await first, await fresh]).not.toContain('unavailable-overloaded');
});

it('what fails makes room', async () => {
  const turns = new Turns({
    ...{ atOnce: 1, waitingMax: 1, waitMaxMs: 8000, refusal },
    clock: { monotonicMs: () => 0 },
  });
  const failing = turns.within('a', () => Promise.reject(new Error('no')));
  const next = turns.within('a', () => Promise.resolve('done'));
  await expect(failing).rejects.toThrow('no');
  expect(await next).toBe('done');
});
