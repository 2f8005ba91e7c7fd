import { expect, it } from 'vitest';
import { isWorse, mayFollow, type Reason, reasonCodes } from '../../src/core/reasons.ts';

const inOrder: Reason[][] = [
  ['certificateHold'],
  ['unspecified'],
  ['affiliationChanged', 'superseded', 'cessationOfOperation'],
  ['privilegeWithdrawn'],
  ['keyCompromise', 'cACompromise', 'aACompromise'],
];

it('orders reasons by how bad they are', () => {
  for (const [at, reasons] of inOrder.entries())
    for (const than of reasons)
      for (const [other, some] of inOrder.entries())
        for (const reason of some) expect(isWorse(than, reason), `${than} → ${reason}`).toBe(other > at);
});

it('lets a release follow a hold only, and anything else follow a release', () => {
  for (const reason of Object.keys(reasonCodes) as Reason[]) {
    expect(mayFollow(reason, 'removeFromCRL')).toBe(reason === 'certificateHold');
    expect(mayFollow('removeFromCRL', reason)).toBe(reason !== 'removeFromCRL');
    expect(mayFollow(undefined, reason)).toBe(reason !== 'removeFromCRL');
    expect(mayFollow(reason, reason)).toBe(false);
  }
});
