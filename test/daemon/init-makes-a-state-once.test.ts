import { mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { Authority, initAuthority, keysIn, newToken, runVouch } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';

it('a second init is refused, says how to start, and changes nothing', async () => {
  const authority = await initAuthority();
  const before = snapshot(authority.state);
  const again = await authority.init();
  expect(again.code).toBe(78);
  expect(again.problem).toMatchObject({
    code: 'config-state',
    detail: expect.stringContaining(`vouch server --config ${authority.config}`) as unknown,
  });
  expect(snapshot(authority.state)).toEqual(before);
  await authority.start();
  expect((await authority.init()).code).toBe(78);
  await authority.enroll('orders');
});

function snapshot(folder: string): Record<string, string> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return Object.fromEntries(
    files.map((entry) => [
      join(entry.parentPath, entry.name),
      readFileSync(join(entry.parentPath, entry.name)).toString('base64'),
    ]),
  );
}

it('what it makes only its owner can read', async () => {
  const { state } = await initAuthority();
  expect(statSync(state).mode & 0o777).toBe(0o700);
  for (const entry of readdirSync(state, { recursive: true, withFileTypes: true }))
    expect(statSync(join(entry.parentPath, entry.name)).mode & 0o077, entry.name).toBe(0);
});

it('a directory with something in it, one that cannot be made, and one token for both are refused before a key is made', async () => {
  const folder = newFolder();
  const online = await newToken(folder, 'online');
  writeFileSync(join(folder, 'root.json'), JSON.stringify(online));
  const authority = new Authority(folder, 'test.example', { online, root: online });
  const same = await authority.init();
  expect(same.code).toBe(2);
  expect(same.problem.detail).toContain('must name two tokens');

  await newToken(folder, 'root');
  mkdirSync(authority.state);
  writeFileSync(join(authority.state, 'somebody-elses'), '');
  const occupied = await authority.init();
  expect(occupied.code).toBe(78);
  expect(occupied.problem.detail).toContain('is not empty');

  const nowhere = new Authority(folder, 'test.example', { online, root: online }, '/proc/nowhere/s');
  const unmakeable = await nowhere.init();
  expect(unmakeable.code).toBe(78);
  expect(unmakeable.problem.detail).toContain('/proc/nowhere');

  expect(keysIn(folder)).toEqual([]);
});

it('without --dev it asks for the two URLs that stand in every certificate', async () => {
  const folder = newFolder();
  await Promise.all([newToken(folder, 'online'), newToken(folder, 'root')]);
  const files = ['--hsm-file', join(folder, 'online.json'), '--root-hsm-file', join(folder, 'root.json')];
  const ran = await runVouch([
    'init',
    '--state',
    join(folder, 's'),
    '--trust-domain',
    'x.example',
    ...files,
    '--json',
  ]);
  expect(ran.code).toBe(2);
  expect(ran.problem.detail).toMatch(/--enrollment-url and --publication-url/);
});
