// What callers can make the agent say.
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Refusals } from '../../src/agent/refusals.ts';

let lines: string[];
let refusals: Refusals;

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
  lines = [];
  refusals = new Refusals((line) => lines.push(line));
});

afterEach(() => vi.useRealTimers());

test('who is refused each second is told of once in ten minutes', () => {
  for (let second = 0; second < 1_500; second += 1) {
    refusals.say('uid 7', () => `pid ${second}`);
    vi.advanceTimersByTime(1_000);
  }
  expect(lines).toEqual(['pid 0', 'pid 600', 'pid 1200']);
});

test('many that differ are twenty lines a minute and one for all the others', () => {
  let made = 0;
  for (let second = 0; second < 120; second += 1) {
    for (let one = 0; one < 100; one += 1)
      refusals.say(`${second}.${one}`, () => {
        made += 1;
        return 'refused';
      });
    vi.advanceTimersByTime(1_000);
  }
  expect(made).toBe(40);
  expect(lines.filter((line) => line === 'refused')).toHaveLength(40);
  expect(lines.filter((line) => line !== 'refused')).toEqual([
    'and 5980 more refusals of callers within a minute',
    'and 5980 more refusals of callers within a minute',
  ]);
  vi.advanceTimersByTime(60_000);
  expect(lines).toHaveLength(42);
});

test('who is refused when the entries ask for something else is told of again', () => {
  for (const asked of ['unix:uid:7', 'unix:uid:7', 'unix:uid:8', 'unix:uid:8'])
    refusals.say('uid 9', () => asked, asked);
  expect(lines).toEqual(['unix:uid:7', 'unix:uid:8']);
});
