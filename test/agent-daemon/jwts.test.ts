import { expect, test } from 'vitest';
import { JwtSvids } from '../../src/agent/daemon/jwts.ts';
import { FakeClock } from '../fakes/clock.ts';

const spiffeId = 'spiffe://prod.example/web';

/** A server that signs when it is told to. */
function slowServer(clock: FakeClock, signed = spiffeId) {
  const waiting: (() => void)[] = [];
  let asked = 0;
  const jwts = new JwtSvids(
    {
      jwtSvid: async (_entryId, [audience]) => {
        asked += 1;
        await new Promise<void>((done) => waiting.push(done));
        const expiresAt = new Date(clock.now() + 300_000).toISOString();
        return { token: `${audience} ${asked}`, expiresAt, spiffeId: signed };
      },
    },
    { clock, spiffeIdOf: () => spiffeId },
  );
  const answerAll = () => waiting.splice(0).forEach((answer) => answer());
  return { jwts, answerAll, asked: () => asked };
}

test('a workload that asks for every audience there is keeps the agent from nobody', async () => {
  const clock = new FakeClock();
  const { jwts, answerAll, asked } = slowServer(clock);
  const outcomes = Array.from({ length: 500 }, (_, at) => jwts.mint('e_1', [`audience-${at}`]));
  const settled = Promise.allSettled(outcomes);
  const other = jwts.mint('e_2', ['audience']);
  expect(asked()).toBe(51);
  answerAll();
  const refused = (await settled).filter(({ status }) => status === 'rejected');
  expect(refused).toHaveLength(450);
  expect(refused[0]).toMatchObject({ reason: { code: 'unavailable-rate-limited' } });
  await expect(other).resolves.toMatchObject({ token: expect.stringContaining('audience') });
  clock.pass(10_001);
  const later = jwts.mint('e_1', ['another']);
  answerAll();
  await expect(later).resolves.toBeDefined();
});

test('a clock that is set back makes no token last longer', async () => {
  const clock = new FakeClock();
  const { jwts, answerAll, asked } = slowServer(clock);
  const first = jwts.mint('e_1', ['a']);
  answerAll();
  await first;
  await expect(jwts.mint('e_1', ['a'])).resolves.toBe(await first);
  clock.pass(200_000);
  clock.step(-3_600_000);
  const second = jwts.mint('e_1', ['a']);
  answerAll();
  await second;
  expect(asked()).toBe(2);
});

test('a token of another identity than the entry has is not given out', async () => {
  const clock = new FakeClock();
  const { jwts, answerAll } = slowServer(clock, 'spiffe://prod.example/admin');
  const minted = jwts.mint('e_1', ['a']);
  answerAll();
  await expect(minted).rejects.toMatchObject({ code: 'denied-server' });
});
