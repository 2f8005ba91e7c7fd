// The runbooks of docs/hsm.md, command for command.
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { pkcs11Tool } from '../support/pkcs11-tool.ts';

async function usable(authority: Authority, name: string): Promise<void> {
  await authority.start();
  await authority.enroll(name);
  expect((await authority.vouch('doctor')).json()).toMatchObject({ findings: [] });
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
}

test('another PIN', async () => {
  const authority = await bootAuthority();
  const { online } = authority.tokens;
  await authority.server.end();
  const renewed = 'another-pin-that-is-long';
  pkcs11Tool(online, '--change-pin', '--new-pin', renewed);
  // Forgotten: the old PIN is presented once, refused, and not presented again.
  for (const refused of [await authority.refusal(), await authority.refusal()])
    expect(refused.problem).toMatchObject({
      code: 'config-pin',
      detail: expect.stringContaining('the file is replaced') as unknown,
    });
  const fresh = `${online.pinFile}.new`;
  writeFileSync(fresh, renewed, { mode: 0o600 });
  renameSync(fresh, online.pinFile);
  await usable(authority, 'orders');
  expect(readFileSync(online.pinFile, 'utf8')).toBe(renewed);
});

test('a token that is lost and has a copy', async () => {
  const authority = await bootAuthority();
  const token = dirname(authority.tokens.online.pinFile);
  const copy = authority.path('copy');
  await authority.server.end();
  cpSync(token, copy, { recursive: true });
  await authority.start();
  await authority.enroll('since');
  await authority.server.end();
  rmSync(token, { recursive: true });
  cpSync(copy, token, { recursive: true });
  await usable(authority, 'orders');
});

test('a move to a token that has the keys and not the guard', async () => {
  const authority = await bootAuthority();
  const { online } = authority.tokens;
  await authority.enroll('before');
  const backup = authority.path('backup');
  expect((await authority.vouch('backup', backup)).code).toBe(0);
  await authority.server.end();
  for (let left = 2; left > 0; left -= 1)
    pkcs11Tool(online, '--delete-object', '--type', 'data', '--label', 'vouch-guard');
  expect((await authority.refusal()).problem.code).toBe('integrity-state');
  const root = join(authority.folder, 'root.json');
  const back = ['restore', backup, '--accept-rewind', '--yes', '--root-hsm-file', root];
  expect((await authority.vouch(...back)).json()).toMatchObject({ rewound: true });
  await usable(authority, 'after');
});
