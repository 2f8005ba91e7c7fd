import { expect, it } from 'vitest';
import { bootAuthority } from '../support/daemon.ts';

it('the second is refused and says why; the first goes on undisturbed', async () => {
  const authority = await bootAuthority();
  const first = authority.server;
  const second = await authority.refusal();
  expect(second.code).toBe(78);
  expect(second.problem).toMatchObject({
    code: 'config-in-use',
    detail: expect.stringMatching(
      /another vouch process uses this state directory.*stop it first/,
    ) as unknown,
  });
  expect(first.code).toBeUndefined();
  await authority.enroll('orders');
  expect((await authority.vouch('status')).json()).toMatchObject({ state: 'ready' });

  await first.end('SIGKILL');
  await authority.start();
  await authority.enroll('billing');
});

it('a server that stops leaves the state to the next at once, twenty starts at one moment give one server', async () => {
  const authority = await bootAuthority();
  expect(await authority.server.end()).toBe(0);
  const starts = Array.from({ length: 5 }, () => authority.launch());
  const outcomes = await Promise.all(
    starts.map((server) =>
      server
        .until(({ stdout }) => stdout.includes('ready'))
        .then(
          () => 'ready',
          () => server.ended().then((ran) => ran.problem.code),
        ),
    ),
  );
  expect(outcomes.sort()).toEqual([
    'config-in-use',
    'config-in-use',
    'config-in-use',
    'config-in-use',
    'ready',
  ]);
});
