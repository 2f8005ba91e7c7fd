import { copyFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { bootAuthority } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';
import { give, Stage, unusedUids } from '../support/users.ts';

it('from other processes of its own user, and serves all the same', async () => {
  const authority = await bootAuthority();
  const { path: joinFile } = await authority.join('host/one');
  const [uid = 0] = unusedUids(1);
  const user = { uid, groups: [] };
  const stage = new Stage(newFolder());
  const home = join(stage.folder, 'home');
  mkdirSync(home);
  copyFileSync(joinFile, join(home, 'join'));
  give(home, user);
  const flags = [
    '--join-file',
    join(home, 'join'),
    '--dir',
    join(home, 'dir'),
    '--socket',
    join(home, 's'),
    '--json',
  ];
  const agent = stage.as(user, stage.vouch('agent', ...flags));
  await agent.until(({ stdout }) => stdout.includes('ready'));
  const { pid } = JSON.parse(agent.stdout) as { pid: number };
  expect((await stage.run(user, ['cat', `/proc/${pid}/environ`])).stderr).toMatch(/Permission denied/);
  expect(await agent.end()).toBe(0);
});
