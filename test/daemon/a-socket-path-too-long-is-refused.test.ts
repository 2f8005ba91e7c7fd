import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Authority, initAuthority } from '../support/daemon.ts';

it('the server says so, and that a shorter state directory helps; with one it starts', async () => {
  const authority = await initAuthority();
  const long = join(authority.folder, 'x'.repeat(110));
  renameSync(authority.state, long);
  const moved = new Authority(authority.folder, authority.trustDomain, authority.tokens, long);
  moved.configure((document) => {
    document.state = long;
  });
  const refused = await moved.refusal();
  expect(refused.code).toBe(78);
  expect(refused.problem).toMatchObject({
    code: 'config-state',
    detail: expect.stringMatching(
      /socket path is longer than 107 bytes: use a shorter state directory/,
    ) as unknown,
  });

  renameSync(long, authority.state);
  authority.configure((document) => {
    document.state = authority.state;
  });
  await authority.start();
});
