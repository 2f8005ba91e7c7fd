import { execFileSync } from 'node:child_process';
import { lstatSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, runVouch } from '../support/daemon.ts';

let authority: Authority;
let create: string[];

beforeAll(async () => {
  authority = await bootAuthority();
  create = ['token', 'create', '--config', authority.config, '--id', authority.id('orders'), '--out'];
});

async function tokens(): Promise<string[]> {
  const list = (await authority.vouch('token', 'list')).json<{ tokens: { tokenId: string }[] }>();
  return list.tokens.map(({ tokenId }) => tokenId);
}

it('--out -: the join line alone on stdout, the token id on stderr', async () => {
  const ran = await runVouch([...create, '-', '--json']);
  expect(ran.stdout).toMatch(/^vouch1\.[\w-]+\n$/);
  expect(JSON.parse(ran.stderr)).toMatchObject({
    tokenId: (await tokens())[0],
    spiffeId: authority.id('orders'),
  });
  const people = await runVouch([...create, '-']);
  expect(people.stdout).toMatch(/^vouch1\.[\w-]+\n$/);
  expect(people.stderr).toContain((await tokens())[0]);
});

it('what is no file is not replaced by one, and no token is made for it', async () => {
  const before = await tokens();
  const [file, link, pipe] = [authority.path('file'), authority.path('link'), authority.path('pipe')];
  writeFileSync(file, 'mine');
  symlinkSync(file, link);
  execFileSync('mkfifo', [pipe]);
  for (const out of [link, pipe, authority.folder]) {
    const ran = await runVouch([...create, out, '--json']);
    expect(ran.code).toBe(2);
    expect(ran.problem.detail).toContain('--out -');
  }
  expect(lstatSync(link).isSymbolicLink()).toBe(true);
  expect(lstatSync(pipe).isFIFO()).toBe(true);
  expect(readFileSync(file, 'utf8')).toBe('mine');
  expect(await tokens()).toEqual(before);
});
