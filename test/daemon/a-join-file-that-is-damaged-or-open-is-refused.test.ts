import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, joinContent, runVouch } from '../support/daemon.ts';

let authority: Authority;
let good: string;
let token: string;

beforeAll(async () => {
  authority = await bootAuthority();
  const { path } = await authority.join('orders');
  good = readFileSync(path, 'utf8');
  ({ token } = joinContent(path));
});

/** `vouch enroll` and `vouch exec` with a join file of this text; both must refuse it alike. */
async function refusals(text: string | Buffer, mode = 0o600) {
  const path = authority.path('join');
  writeFileSync(path, text, { mode });
  chmodSync(path, mode);
  const out = authority.path('out');
  const enroll = await authority.vouch('enroll', '--join-file', path, '--out', out);
  const exec = await runVouch(['exec', '--join-file', path, '--out', out, '--', 'echo', 'ran']);
  expect(exec.code).toBe(enroll.code);
  expect(exec.stdout).toBe('');
  expect(enroll.stderr + exec.stderr).not.toContain(token);
  expect(enroll.stderr + exec.stderr).not.toContain(good.slice(20, 60));
  expect(existsSync(`${out}/current`)).toBe(false);
  return enroll;
}

it.each<[string, () => string | Buffer]>([
  ['empty', () => ''],
  ['cut in the middle', () => good.slice(0, good.length / 2)],
  ['cut by one character', () => good.trimEnd().slice(0, -1)],
  ['wrapped by an editor', () => `${good.slice(0, 60)}\n${good.slice(60)}`],
  ['another file', () => 'hello'],
  ['of another version', () => good.replace('vouch1.', 'vouch9.')],
  ['with an unknown member', () => encoded({ ...decoded(), more: 1 })],
  ['without its pin', () => encoded({ ...decoded(), pin: undefined })],
  ['with http', () => encoded({ ...decoded(), server: 'http://127.0.0.1:1' })],
  ['with a path in its URL', () => encoded({ ...decoded(), server: 'https://127.0.0.1:1/x' })],
  ['binary', () => Buffer.from([0, 255, 254, 1, 2])],
  ['of a megabyte', () => `vouch1.${'A'.repeat(1 << 20)}`],
])('%s: exit 78, and how to get another', async (_name, text) => {
  const refused = await refusals(text());
  expect(refused.code).toBe(78);
  expect(refused.problem.code).toBe('config-invalid');
  expect(refused.problem.detail).toMatch(
    /make a new one with `vouch token create`|the server URL must be https/,
  );
});

it.each([0o644, 0o640, 0o604])('mode %o: exit 78, its token counts as known', async (mode) => {
  const refused = await refusals(good, mode);
  expect(refused.code).toBe(78);
  expect(refused.problem).toMatchObject({
    code: 'config-secret-readable',
    detail: expect.stringMatching(/treat its token as known.*chmod 600/) as unknown,
  });
});

it('not there, a folder, not readable', async () => {
  const enroll = (path: string) =>
    authority.vouch('enroll', '--join-file', path, '--out', authority.path('out'));
  expect((await enroll('/nowhere/join')).problem.detail).toMatch(
    /is not there; make one with `vouch token create --out`/,
  );
  const folder = authority.path('folder');
  mkdirSync(folder);
  expect((await enroll(folder)).code).toBe(78);
});

it('and the untouched one still counts', async () => {
  const path = authority.path('join');
  writeFileSync(path, good, { mode: 0o600 });
  expect((await authority.vouch('enroll', '--join-file', path, '--out', authority.path('out'))).code).toBe(0);
});

function decoded(): Record<string, unknown> {
  return JSON.parse(Buffer.from(good.trim().slice('vouch1.'.length), 'base64url').toString('utf8')) as Record<
    string,
    unknown
  >;
}

function encoded(content: object): string {
  return `vouch1.${Buffer.from(JSON.stringify(content)).toString('base64url')}\n`;
}
