import { describe, expect, it } from 'vitest';
import { Restarts } from '../../src/signer/restarts.ts';

describe('restarts', () => {
  it('of a signer that came up are at once, up to a limit a minute', () => {
    const restarts = new Restarts(5);
    const delays = Array.from({ length: 8 }, (_, index) => {
      const delay = restarts.delayMs(index * 100);
      restarts.cameUp();
      return delay;
    });
    expect(delays).toEqual([0, 0, 0, 0, 0, 1000, 1000, 1000]);
    expect(restarts.delayMs(61_000)).toBe(0);
  });

  it('of one that does not come up wait longer and longer, so little that a call waits for a token that is back, and never end', () => {
    const restarts = new Restarts(1000);
    const delays = Array.from({ length: 8 }, (_, index) => {
      const delay = restarts.delayMs(index);
      restarts.failed();
      return delay;
    });
    expect(delays).toEqual([0, 100, 200, 400, 400, 400, 400, 400]);
    restarts.cameUp();
    expect(restarts.delayMs(9)).toBe(0);
  });
});
