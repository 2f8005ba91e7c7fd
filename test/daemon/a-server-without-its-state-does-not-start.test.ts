import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, initAuthority } from '../support/daemon.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await initAuthority();
});

/** Refusal with one thing away, which is put back. */
async function refusalWithout(name: string) {
  const path = join(authority.state, name);
  renameSync(path, `${authority.folder}/away`);
  const refused = await authority.refusal();
  rmSync(path, { recursive: true, force: true });
  renameSync(`${authority.folder}/away`, path);
  return refused;
}

it.each([
  ['vouch.db', 'config-state', /no state at .*run vouch init|is not a Vouch database/],
  ['signer/authority.json', 'config-state', /authority\.json|signer cannot start/],
  ['signer/floor.json', 'integrity-state', /floor\.json is missing.*vouch restore/],
])('without %s', async (name, code, words) => {
  const refused = await refusalWithout(name);
  expect(refused.code).not.toBe(0);
  expect(refused.problem.code).toBe(code);
  expect(refused.stderr).toMatch(words);
});

it('an empty directory, a foreign database and a directory of another trust domain are not taken for a state', async () => {
  const empty = authority.path('empty');
  mkdirSync(empty, { mode: 0o700 });
  const at = (state: string) => {
    authority.configure((document) => {
      document.state = state;
    });
    return authority.refusal();
  };
  expect((await at(empty)).problem).toMatchObject({
    code: 'config-state',
    detail: expect.stringMatching(/run vouch init/) as unknown,
  });
  writeFileSync(
    join(empty, 'vouch.db'),
    'this is no database, whatever its name says, and long enough to be read as one',
  );
  expect((await at(empty)).problem).toMatchObject({
    code: 'config-state',
    detail: expect.stringMatching(/is not a Vouch database/) as unknown,
  });
  expect((await at('/proc/nowhere')).problem.code).toBe('config-state');
  authority.configure((document) => {
    document.state = authority.state;
    document.trustDomain = 'other.example';
  });
  expect((await authority.refusal()).problem).toMatchObject({
    code: 'config-state',
    detail: expect.stringContaining('belongs to the trust domain test.example') as unknown,
  });
  authority.configure((document) => {
    document.trustDomain = 'test.example';
  });
});

it('without its tiles or its own certificate it makes them anew', async () => {
  await authority.start();
  await authority.enroll('orders');
  await authority.server.end();
  rmSync(join(authority.state, 'log'), { recursive: true, force: true });
  rmSync(join(authority.state, 'server'), { recursive: true });
  await authority.start();
  await authority.enroll('billing');
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
});
