// What one agent has in progress is bounded, and what all have, counted in certificates.
import { expect, it } from 'vitest';
import { AgentAdmission } from '../../src/http/admission.ts';
import { codeOf } from '../invariants/support/refusal.ts';

it('of each agent some, of all more, renewals before first ones; what is done makes room', async () => {
  const admission = new AgentAdmission(8, 4);
  const { promise: done, resolve: finish } = Promise.withResolvers<void>();
  const started: Promise<unknown>[] = [];
  /** Refused at once, or in progress until all are done. */
  const takes = (road: 'enrollment' | 'renewal', agent: string): Promise<string> => {
    const { promise: begins, resolve: begin } = Promise.withResolvers<string>();
    const work = () => {
      begin('in progress');
      return done;
    };
    const outcome = codeOf(() => admission.within(road, agent, work));
    started.push(outcome);
    return Promise.race([begins, outcome]);
  };
  for (let count = 0; count < 3; count += 1) expect(await takes('enrollment', 'a')).toBe('in progress');
  expect(await takes('enrollment', 'a')).toBe('unavailable-overloaded');
  expect(await takes('renewal', 'a')).toBe('in progress');
  expect(await takes('renewal', 'a')).toBe('unavailable-overloaded');
  // Six of eight for first ones.
  for (let count = 0; count < 2; count += 1) expect(await takes('enrollment', 'b')).toBe('in progress');
  expect(await takes('enrollment', 'c')).toBe('unavailable-overloaded');
  for (let count = 0; count < 2; count += 1) expect(await takes('renewal', 'c')).toBe('in progress');
  expect(await takes('renewal', 'd')).toBe('unavailable-overloaded');
  finish();
  await Promise.all(started);
  expect(await takes('enrollment', 'a')).toBe('in progress');
});
