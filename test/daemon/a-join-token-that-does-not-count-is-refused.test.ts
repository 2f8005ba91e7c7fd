import { existsSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { newJoinToken } from '../../src/attestation/node/join-token/token.ts';
import { type Authority, bootAuthority, joinContent, writeJoin } from '../support/daemon.ts';
import type { Ran } from '../support/running.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

async function enroll(joinFile: string): Promise<{ ran: Ran; out: string }> {
  const out = authority.path('out');
  return { ran: await authority.vouch('enroll', '--join-file', joinFile, '--out', out), out };
}

/** Refused with this code, with words that say what to do, and without a certificate. */
async function expectRefusal(joinFile: string, code: string, words: RegExp): Promise<void> {
  const { ran, out } = await enroll(joinFile);
  expect(ran.code).toBe(1);
  expect(ran.problem).toMatchObject({ code, detail: expect.stringMatching(words) as unknown });
  expect(existsSync(`${out}/current`)).toBe(false);
  const { token } = joinContent(joinFile);
  expect(ran.stderr + ran.stdout + authority.server.stderr).not.toContain(token);
}

it('one that was never made', async () => {
  const { path } = await authority.join('wrong');
  writeJoin(path, { ...joinContent(path), token: newJoinToken() });
  await expectRefusal(path, 'denied-evidence', /not known here; ask the operator for a new join file/);
});

it('one with a typing error, which its checksum shows', async () => {
  const { path } = await authority.join('typo');
  const { token, ...rest } = joinContent(path);
  writeJoin(path, { ...rest, token: token.slice(0, 20) + (token[20] === 'A' ? 'B' : 'A') + token.slice(21) });
  await expectRefusal(path, 'denied-evidence', /not a whole join token/);
});

it('one that is used up; the certificate it gave stays', async () => {
  const { path, tokenId } = await authority.join('used');
  const first = await enroll(path);
  const { serial } = first.ran.json<{ serial: string }>();
  // Another folder means another key: the same key would get its certificate again.
  await expectRefusal(path, 'policy-key-conflict', /another key/);
  const { certificates } = (await authority.vouch('cert', 'list', '--token', tokenId)).json<{
    certificates: { serial: string; state: string }[];
  }>();
  expect(certificates).toEqual([expect.objectContaining({ serial, state: 'valid' })]);
});

it('one of two uses, at the third', async () => {
  const { path } = await authority.join('twice', '--uses', '2');
  for (const one of [await enroll(path), await enroll(path)]) expect(one.ran.code).toBe(0);
  await expectRefusal(
    path,
    'policy-key-conflict',
    /used up with another key: ask the operator for a new one/,
  );
});

it('one that has expired', async () => {
  const { path, expiresAt } = await authority.join('expired', '--ttl', '1s');
  await new Promise((done) => setTimeout(done, Date.parse(expiresAt) + 2000 - Date.now()));
  await expectRefusal(path, 'denied-token-expired', /has expired; ask the operator for a new join file/);
});

it('one that was revoked', async () => {
  const { path, tokenId } = await authority.join('revoked');
  expect((await authority.vouch('token', 'revoke', tokenId)).json()).toEqual({ tokenId, revoked: true });
  await expectRefusal(path, 'denied-token-revoked', /was revoked; ask the operator for a new join file/);
});

it('one that is for other addresses', async () => {
  const { path } = await authority.join('elsewhere', '--cidr', '10.0.0.0/8', '--cidr', '2001:db8::/32');
  await expectRefusal(path, 'denied-token-address', /may not be used from this address/);
});

it('one of an identity that was suspended since', async () => {
  const suspended = authority.id('suspended');
  const { path } = await authority.join('suspended');
  (await authority.vouch('revoke', '--id', suspended, '--reason', 'superseded', '--yes')).json();
  await expectRefusal(path, 'denied-suspended', /vouch entry resume/);
  (await authority.vouch('entry', 'resume', '--id', suspended)).json();
  expect((await enroll(path)).ran.code).toBe(0);
});

it('and all of it is in the log, which is whole', async () => {
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
    certificates: 5,
  });
});
