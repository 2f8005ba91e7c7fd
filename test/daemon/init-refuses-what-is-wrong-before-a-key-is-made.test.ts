import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { Authority, keysIn, newToken } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';

let authority: Authority;

beforeAll(async () => {
  const folder = newFolder();
  const [online, root] = await Promise.all([newToken(folder, 'online'), newToken(folder, 'root')]);
  authority = new Authority(folder, 'test.example', { online, root });
  writeFileSync(join(folder, 'file'), '');
});

it.each([
  ['--trust-domain', 'Test.Example', /trust domain/],
  ['--trust-domain', 'spiffe://x', /trust domain/],
  ['--enrollment-url', 'http://ca.example:8443', /must be https/],
  ['--publication-url', 'ftp://ca.example', /must be an http URL/],
  ['--publication-url', 'https://ca.example', /must be an http URL/],
  ['--enrollment-listen', 'nohost', /must be HOST:PORT/],
  ['--operations-listen', '127.0.0.1:99999', /must be a port/],
  ['--publication-listen', 'nowhere.invalid:0', /cannot listen/],
  ['--rollback-mark', 'nowhere', /takes token or file:PATH/],
  ['--rollback-mark', 'file:/missing/mark', /\/missing must be a folder that can be written/],
  ['--rollback-mark', 'file:/proc', /\/proc is no file/],
  ['--rollback-mark', 'file:/etc/hostname/mark', /must be a folder/],
])('%s %s', async (flag, value, words) => {
  const ran = await authority.init(flag, value);
  expect(ran.code).toBe(2);
  expect(JSON.parse(ran.stderr)).toMatchObject({
    code: 'usage-invalid',
    detail: expect.stringContaining(flag) as unknown,
  });
  expect(ran.problem.detail).toMatch(words);
  expect(keysIn(authority.folder)).toEqual([]);
  expect(existsSync(authority.state)).toBe(false);
});

it('name constraints on a trust domain that is an address', async () => {
  const ran = await authority.init('--trust-domain', '10.0.0.1', '--name-constraints');
  expect(ran.code).toBe(2);
  expect(ran.problem.detail).toMatch(/needs a trust domain that is a DNS name/);
});
