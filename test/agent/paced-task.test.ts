import { expect, onTestFinished, test } from 'vitest';
import { PacedTask } from '../../src/agent/deliver/paced-task.ts';
import { systemClock } from '../../src/core/clock.ts';
import { eventually } from '../support/running.ts';

/** A task that fails with each of these problems and then succeeds, without pauses; resolves to what it told. */
async function toldOf(
  problems: readonly string[],
): Promise<{ told: string[]; failures: (number | undefined)[] }> {
  const told: string[] = [];
  const failures: (number | undefined)[] = [];
  const left = [...problems];
  const stop = new AbortController();
  onTestFinished(() => stop.abort());
  const task = new PacedTask<'certificate'>(() => Promise.resolve(left.shift()), {
    name: 'reload',
    backoff: { baseMs: 1, capMs: 1 },
    restMs: () => 0,
    clock: systemClock,
    signal: stop.signal,
    notice: (line) => told.push(line),
    sleep: () => Promise.resolve(),
    outcomeChanged: () => failures.push(task.outcome.failures),
  });
  task.changed('certificate');
  await eventually(() => task.outcome.lastSuccess !== undefined);
  expect(task.outcome.lastFailure?.problem).toBe(problems.at(-1));
  return { told, failures };
}

test('a failure whose words differ only by times and numbers is told once, and counted', async () => {
  const problems = Array.from(
    { length: 50 },
    (_, n) =>
      `exit code 1: {"ts":17956861${n}.7} 2026/11/26 09:42:${n} [emerg] ${n}#${n}: cannot load svid.pem`,
  );
  const { told, failures } = await toldOf(problems);
  expect(told).toEqual([
    `reload failed: ${problems[0]}; trying again`,
    'reload succeeded again; it had failed 50 times',
  ]);
  expect(failures).toEqual([undefined, ...problems.map((_, n) => n + 1), undefined]);
});

test('another kind of failure is told, also where the two alternate', async () => {
  const kinds = ['/run/nginx.pid is not there', 'exit code 1: no', 'exit code 2: no'];
  const { told } = await toldOf([...kinds, ...kinds, ...kinds]);
  expect(told).toEqual([
    ...kinds.map((kind) => `reload failed: ${kind}; trying again`),
    'reload succeeded again; it had failed 9 times',
  ]);
});

test('who always has other words does not fill the log', async () => {
  const { told } = await toldOf(Array.from({ length: 200 }, (_, n) => 'x'.repeat(n + 1)));
  expect(told).toHaveLength(9);
});
