import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { Authority, keysIn, newToken, runVouch } from '../support/daemon.ts';
import { withoutMechanism } from '../support/hsm.ts';
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
  ['--root-key', 'rsa-2048', /Allowed choices are ec-p256, ec-p384, rsa-3072, .*, ed25519/],
  ['--issuer-key', 'P-256', /Allowed choices are/],
  ['--log-key', 'ec-p384', /Allowed choices are ed25519, ec-p256/],
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

it.each([
  ['--issuer-key', 'rsa-4096', 'CKM_RSA_PKCS_KEY_PAIR_GEN'],
  ['--log-key', 'ed25519', 'CKM_EDDSA'],
] as const)('%s %s on a token without %s', async (flag, type, mechanism) => {
  const folder = newFolder();
  const [online, root] = await Promise.all([newToken(folder, 'online'), newToken(folder, 'root')]);
  withoutMechanism(online, mechanism);
  const poor = new Authority(folder, 'test.example', { online, root });
  const ran = await poor.init(flag, type);
  expect(ran.code).toBe(78);
  expect(ran.problem.detail).toContain(
    `online makes no ${type} key: it has no ${mechanism}; choose one of ec-p256`,
  );
  expect(keysIn(folder)).toEqual([]);
  expect(existsSync(poor.state)).toBe(false);
});

it.each([[['--issuer-csr-out', '/nowhere/request.json']], [['--ceremony-in', '/nowhere']]])(
  'a standby beside a root that is elsewhere: %s',
  async (where) => {
    const standby = ['--standby-hsm-file', join(authority.folder, 'online.json')];
    const known =
      where[0] === '--ceremony-in' ? ['init', '--state', authority.state] : authority.initWithoutRoot();
    const ran = await runVouch([...known, ...where, ...standby, '--json']);
    expect(ran.code).toBe(2);
    expect(ran.problem.detail).toMatch(/^--standby-hsm-file needs --root-hsm-file/);
    expect(existsSync(authority.state)).toBe(false);
  },
);

it('name constraints on a trust domain that is an address', async () => {
  const ran = await authority.init('--trust-domain', '10.0.0.1', '--name-constraints');
  expect(ran.code).toBe(2);
  expect(ran.problem.detail).toMatch(/needs a trust domain that is a DNS name/);
});

it('flags that do not belong together, or are missing, by all of their names and with what to give', async () => {
  const state = ['init', '--state', authority.state, '--json'];
  const refusal = async (...flags: string[]): Promise<string> => {
    const ran = await runVouch([...state, ...flags]);
    expect(ran.code).toBe(2);
    return ran.problem.detail;
  };
  expect(await refusal()).toBe(
    'give --trust-domain, --hsm-file, --root-hsm-file (--issuer-csr-out instead of --root-hsm-file where the root is on a machine of its own)',
  );
  expect(await refusal('--issuer-csr-out', 'r')).toBe('give --trust-domain, --hsm-file');
  expect(await refusal('--issuer-csr-out', 'r', '--standby-hsm-file', 'f')).toMatch(/needs --root-hsm-file/);
  expect(await refusal('--issuer-csr-out', 'r', '--ceremony-in', 'd')).toMatch(/give one of them/);
  expect(await refusal('--ceremony-in', 'd', '--hsm-file', 'f')).toMatch(
    /--hsm-file has no place beside --ceremony-in/,
  );
  expect(await refusal('--next-issuers', '2')).toMatch(/give --issuer-csr-out, too/);
  expect(await refusal('--root-pin', `sha256:${'0'.repeat(64)}`)).toMatch(/give --ceremony-in, too/);
});
