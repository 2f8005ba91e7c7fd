import { expect, test } from 'vitest';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import { SvidAllowance } from '../../src/enrollment/svid-allowance.ts';
import type { CertificateStanding } from '../../src/store/records.ts';

/** An agent with so many entries, and what it takes of its allowance. */
function agentWith(entries: number) {
  const store = { count: entries, entryCountOf: () => store.count };
  const allowance = new SvidAllowance(store, { atOnce: 60, perLifetime: 4 });
  const agent = { lineage: 'l', spiffeId: 'spiffe://prod.example/host' } as CertificateStanding;
  /** Seconds to wait, 0 where it was taken. */
  const take = (entryId: string, lifetimeSeconds: number, atSeconds: number): number => {
    try {
      const entry = { entryId, spiffeId: 'spiffe://prod.example/w' } as RegistrationEntry;
      allowance.take(agent, entry, lifetimeSeconds, atSeconds * 1000);
      return 0;
    } catch (error) {
      return (error as { retryAfterSeconds: number }).retryAfterSeconds;
    }
  };
  return { store, take };
}

test('an agent that was restarted with one entry gets certificates for those that are made then', () => {
  const { store, take } = agentWith(1);
  for (let at = 0; at < 40; at += 1) expect(take('e_1', 3600, at)).toBe(0);
  store.count = 10;
  for (let index = 2; index <= 10; index += 1) expect(take(`e_${index}`, 3600, 60)).toBe(0);
});

test('entries that are made one after another within a moment all get theirs', () => {
  const { store, take } = agentWith(1);
  for (let index = 1; index <= 2000; index += 1) {
    store.count = index;
    expect(take(`e_${index}`, 3600, index / 1000)).toBe(0);
  }
});

test('an entry of two minutes is renewed beside a hundred of an hour', () => {
  const { take } = agentWith(101);
  for (let index = 1; index <= 100; index += 1) expect(take(`e_${index}`, 3600, 0)).toBe(0);
  for (let at = 0; at < 3600; at += 50) expect(take('e_short', 120, at)).toBe(0);
});

test('an attacker gets of ten entries no more than four of each in an hour, after what there is at once', () => {
  const { take } = agentWith(10);
  let had = 0;
  for (let at = 0; at < 10 * 3600; at += 10)
    for (let index = 0; index < 10; index += 1) if (take(`e_${index}`, 3600, at) === 0) had += 1;
  expect(had).toBeGreaterThan(380);
  expect(had).toBeLessThanOrEqual(100 + 10 * 40);
});
