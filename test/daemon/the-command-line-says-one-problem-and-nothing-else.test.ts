import { expect, it } from 'vitest';
import { bootAuthority } from '../support/daemon.ts';

it('a restore that the signer refuses: with --json stderr is the problem, without it a sentence', async () => {
  const authority = await bootAuthority();
  const backup = authority.path('backup');
  (await authority.vouch('backup', backup)).json();
  await authority.enroll('later');
  await authority.server.end();
  const ran = await authority.vouch('restore', backup);
  expect(ran.code).toBe(1);
  expect(JSON.parse(ran.stderr)).toMatchObject({
    code: 'integrity-rewind',
    title: expect.not.stringContaining('server') as unknown,
    detail: expect.not.stringContaining('vouch restore') as unknown,
  });
});
