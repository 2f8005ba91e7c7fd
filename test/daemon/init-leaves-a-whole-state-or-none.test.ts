import { existsSync, mkdirSync, readdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { Authority, newToken, runVouch, startVouch } from '../support/daemon.ts';
import { mountOver } from '../support/mount.ts';
import { newFolder } from '../support/running.ts';

let authority: Authority;

beforeEach(async () => {
  const folder = newFolder();
  const [online, root] = await Promise.all([newToken(folder, 'online'), newToken(folder, 'root')]);
  authority = new Authority(folder, 'test.example', { online, root });
});

async function expectNoState(): Promise<void> {
  const refused = await authority.refusal();
  expect(refused.code).toBe(78);
}

it('an empty mounted volume becomes the state', async () => {
  mkdirSync(authority.state);
  const wrapper = await mountOver(authority.state, 'mode=755');
  const made = await runVouch([...authority.initArguments(), '--json'], { wrapper });
  expect(made.json()).toMatchObject({ state: authority.state });
  await authority.start({ wrapper });
  expect(await authority.server.end()).toBe(0);
});

it('one that is killed leaves nothing that a server takes for a state, and the next one clears it away', async () => {
  const init = startVouch(authority.initArguments());
  await init.until(({ stderr }) => stderr.includes('first checkpoint'));
  await init.end('SIGKILL');
  await expectNoState();
  (await authority.init()).json();
  expect(readdirSync(authority.state).filter((name) => name.startsWith('init'))).toEqual([]);
  await authority.start();
});

it('one that is killed while its files move into their place, too', async () => {
  (await authority.init()).json();
  mkdirSync(join(authority.state, 'init.unfinished'));
  renameSync(join(authority.state, 'vouch.db'), join(authority.state, 'init.unfinished/vouch.db'));
  await expectNoState();
  (await authority.init()).json();
  await authority.start();
});

it('of two at one moment one makes the state', async () => {
  const both = await Promise.all([authority.init(), authority.init()]);
  expect(both.map(({ code }) => Number(code)).toSorted((a, b) => a - b)).toEqual([0, 78]);
  await authority.start();
});

it('one that fails takes away what it made', async () => {
  const wrongPin = authority.path('root.json');
  const { root, online } = authority.tokens;
  writeFileSync(wrongPin, JSON.stringify({ ...root, pinFile: online.pinFile }));
  const ran = await authority.init('--root-hsm-file', wrongPin);
  expect(ran.code).toBe(78);
  expect(ran.problem.code).toBe('config-pin');
  expect(existsSync(authority.state)).toBe(false);
});
