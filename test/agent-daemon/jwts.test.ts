import { expect, it } from 'vitest';
import { JwtSvids } from '../../src/agent/daemon/jwts.ts';

const spiffeId = 'spiffe://a.b/web';

/** Tokens of a server that counts what it signs. */
function jwts() {
  const at = { nowMs: 1_000_000, signed: 0 };
  const clock = { now: () => at.nowMs, monotonicMs: () => at.nowMs };
  const jwtSvid = (): Promise<{ token: string; expiresAt: string; spiffeId: string }> => {
    at.signed += 1;
    const expiresAt = new Date(at.nowMs + 300_000).toISOString().replace(/\.\d+Z/, 'Z');
    return Promise.resolve({ token: `t${at.signed}`, expiresAt, spiffeId });
  };
  return { at, made: new JwtSvids({ jwtSvid }, { clock, spiffeIdOf: () => spiffeId }) };
}

it('a token is given again until it is past half its life, and one call is for all who ask for it', async () => {
  const { at, made } = jwts();
  const all = await Promise.all([made.mint('e', ['x']), made.mint('e', ['x']), made.mint('e', ['y'])]);
  expect(all.map(({ token }) => token)).toEqual(['t1', 't1', 't2']);
  at.nowMs += 149_000;
  expect((await made.mint('e', ['x'])).token).toBe('t1');
  at.nowMs += 2_000;
  expect((await made.mint('e', ['x'])).token).toBe('t3');
});

it('who makes up audiences without end has few of them signed, and keeps nobody else from his', async () => {
  const { at, made } = jwts();
  const tried = await Promise.allSettled(
    Array.from({ length: 500 }, (_, n) => made.mint('noisy', [`audience ${n}`])),
  );
  expect(tried.filter(({ status }) => status === 'fulfilled').length).toBe(50);
  expect(tried.at(-1)).toMatchObject({ reason: { code: 'unavailable-rate-limited' } });
  expect((await made.mint('quiet', ['x'])).token).toBe('t51');
  at.nowMs += 10_001;
  expect((await made.mint('noisy', ['x'])).token).toBe('t52');
});
