import { randomBytes } from 'node:crypto';
import { expect, it } from 'vitest';
import { Challenges } from '../../src/enrollment/challenge.ts';

const nowMs = Date.parse('2026-11-21T12:00:00Z');
const refused = expect.objectContaining({ code: 'request-binding' }) as Error;

it('a nonce counts once, for sixty seconds', () => {
  const challenges = new Challenges();
  const { nonce, expiresAtMs } = challenges.issue(nowMs);
  expect([nonce.length, expiresAtMs]).toEqual([32, nowMs + 60_000]);
  expect(challenges.redeem(nonce, nowMs + 60_000)).toEqual(nonce);
  expect(() => challenges.redeem(nonce, nowMs)).toThrow(refused);
  const late = challenges.issue(nowMs).nonce;
  expect(() => challenges.redeem(late, nowMs + 60_001)).toThrow(refused);
});

it('only our own count: no guess, no changed byte, no other length, none of another process', () => {
  const challenges = new Challenges();
  const { nonce } = challenges.issue(nowMs);
  const changed = Array.from({ length: 32 }, (_, at) => {
    const copy = Buffer.from(nonce);
    copy[at] = (copy[at] ?? 0) ^ 1;
    return copy;
  });
  const others = [randomBytes(32), Buffer.alloc(0), nonce.subarray(1), Buffer.concat([nonce, nonce])];
  const foreign = new Challenges().issue(nowMs).nonce;
  for (const wrong of [...changed, ...others, foreign])
    expect(() => challenges.redeem(wrong, nowMs), wrong.toString('hex')).toThrow(refused);
  expect(challenges.redeem(nonce, nowMs)).toEqual(nonce);
});

it("a flood of requests voids nobody's, and all are different", () => {
  const challenges = new Challenges();
  const { nonce } = challenges.issue(nowMs);
  const flood = new Set(Array.from({ length: 50_000 }, () => challenges.issue(nowMs).nonce.toString('hex')));
  expect(flood.size).toBe(50_000);
  expect(challenges.redeem(nonce, nowMs + 1)).toEqual(nonce);
});

it('a used one stays used for as long as it could count, whatever else is redeemed', () => {
  const challenges = new Challenges();
  const { nonce } = challenges.issue(nowMs + 30_000);
  challenges.redeem(nonce, nowMs + 30_000);
  for (let second = 31; second < 90; second += 1) {
    const at = nowMs + second * 1000;
    challenges.redeem(challenges.issue(at).nonce, at);
    expect(() => challenges.redeem(nonce, at), `${second} s`).toThrow(refused);
  }
});
