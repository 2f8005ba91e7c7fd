import { expect, test } from 'vitest';
import type { Issuer } from '../../src/issuance/issuer.ts';
import { StandingIssuers, Takeover } from '../../src/issuance/issuers.ts';
import { FakeClock } from '../fakes/clock.ts';

const afterMs = 10_000;

function pair() {
  const clock = new FakeClock();
  const away = new Set<string>();
  let restarts = 0;
  const changes: string[] = [];
  const named = (keyId: string): Issuer => ({ keyId }) as Issuer;
  const issuers = new Takeover({
    ...{ first: named('first'), standby: named('standby'), clock, afterMs },
    life: (keyId) => (away.has(keyId) ? undefined : restarts),
    changed: ({ keyId }) => changes.push(keyId),
  });
  /** Time passes with somebody asking each second. */
  const seconds = (count: number): string => {
    for (let at = 0; at < count; at += 1) {
      issuers.current();
      clock.pass(1000);
    }
    return issuers.current().keyId;
  };
  return { issuers, away, changes, clock, seconds, restart: () => (restarts += 1) };
}

test('the standby issues once the first has been away for so long, not before', () => {
  const { issuers, away, seconds } = pair();
  expect(seconds(60)).toBe('first');
  away.add('first');
  expect(seconds(9)).toBe('first');
  expect(issuers.takeOverInSeconds()).toBe(1);
  expect(seconds(1)).toBe('standby');
  expect(issuers.takeOverInSeconds()).toBeUndefined();
});

test('an absence that ends in time starts anew', () => {
  const { away, seconds } = pair();
  for (let round = 0; round < 5; round += 1) {
    away.add('first');
    expect(seconds(9)).toBe('first');
    away.delete('first');
    expect(seconds(4)).toBe('first');
  }
});

test('a first that comes up and hangs each time is away, also where nobody sees it go', () => {
  const { seconds, restart, changes } = pair();
  expect(seconds(10)).toBe('first');
  for (let round = 0; round < 8; round += 1) {
    restart();
    seconds(2);
  }
  expect(changes).toEqual(['standby']);
});

test('the first issues again once it has been back for as long; one that comes and goes does not', () => {
  const { away, seconds, changes } = pair();
  away.add('first');
  seconds(12);
  for (let round = 0; round < 5; round += 1) {
    away.delete('first');
    expect(seconds(9)).toBe('standby');
    away.add('first');
    expect(seconds(2)).toBe('standby');
  }
  away.delete('first');
  expect(seconds(11)).toBe('first');
  expect(changes).toEqual(['standby', 'first']);
});

test('a standby that is away takes nothing over, and gives back at once', () => {
  const { issuers, away, seconds } = pair();
  away.add('first').add('standby');
  expect(seconds(60)).toBe('first');
  expect(issuers.takeOverInSeconds()).toBeUndefined();
  away.delete('standby');
  expect(seconds(1)).toBe('standby');
  away.delete('first');
  away.add('standby');
  expect(seconds(1)).toBe('first');
});

test('an issuer of another state is none', () => {
  const { issuers } = pair();
  expect(issuers.of('standby').keyId).toBe('standby');
  expect(() => issuers.of('other')).toThrow(expect.objectContaining({ code: 'integrity-state' }));
});

test('one that may issue no more is passed over, whoever is away; of none the one whose turn it is stays', () => {
  const { issuers: turns, away } = pair();
  const ended = new Set(['first']);
  const issuers = new StandingIssuers(turns, {
    all: turns.all,
    mayIssue: (keyId) => !ended.has(keyId),
    isRevoked: (keyId) => ended.has(keyId),
  });
  expect(issuers.current().keyId).toBe('standby');
  away.add('first');
  expect(issuers.takeOverInSeconds(), 'nobody waits for who does not come').toBeUndefined();
  expect(issuers.of('first').keyId, 'its CRLs and certificates are read').toBe('first');
  ended.add('standby');
  expect(issuers.current().keyId).toBe('first');
  expect(issuers.mayIssue('first')).toBe(false);
});
