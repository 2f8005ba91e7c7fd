import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose';
import { expect, it } from 'vitest';
import { type Authority, bootAuthority, runVouch } from '../support/daemon.ts';
import { simulatedToken } from '../support/hsm-sim.ts';
import { createEntry, type Jwk, jwtSvid, published } from '../support/jwt.ts';
import { eventually } from '../support/running.ts';

interface Published {
  keys: Jwk[];
  spiffe_sequence: number;
}

const jwtKeys = async (authority: Authority): Promise<(string | undefined)[]> => {
  const { keys } = await published<Published>(authority, '/bundle.json');
  return keys.filter(({ use }) => use === 'jwt-svid').map(({ kid }) => kid);
};

async function verified(authority: Authority, token: string): Promise<string | undefined> {
  const keys = createLocalJWKSet(await published<JSONWebKeySet>(authority, '/.well-known/jwks.json'));
  const { protectedHeader } = await jwtVerify(token, keys, { audience: 'payments', algorithms: ['ES256'] });
  return protectedHeader.kid;
}

it('a key that is lost or replaced gives way to another, which the bundle has when it signs', async () => {
  const authority = await bootAuthority();
  const agent = await authority.enroll('agent');
  const web = await createEntry(authority, 'web', 'agent');
  const [first] = await jwtKeys(authority);
  expect(await verified(authority, await jwtSvid(authority, agent, web, 'payments'))).toBe(first);
  const { spiffe_sequence: before } = await published<Published>(authority, '/bundle.json');
  const make = (...flags: readonly string[]) =>
    runVouch(['signer', '--config', authority.config, '--make-jwt-key', '--json', ...flags]);
  expect((await make()).json()).toEqual({ keyId: first, made: false });

  // As of a state that was made before there were any.
  const file = join(authority.state, 'signer', 'authority.json');
  const { jwtKey: _, ...rest } = JSON.parse(readFileSync(file, 'utf8')) as Record<string, unknown>;
  await authority.server.end();
  writeFileSync(file, JSON.stringify(rest), { mode: 0o600 });
  await authority.start();
  await expect(jwtSvid(authority, agent, web, 'payments')).rejects.toThrow(/unavailable-signer/);
  expect(await jwtKeys(authority)).toEqual([first]);

  const { keyId, made } = (await make()).json<{ keyId: string; made: boolean }>();
  expect(made).toBe(true);
  await authority.server.end();
  await authority.start();
  await eventually(async () => (await jwtKeys(authority)).join() === keyId);
  const { spiffe_sequence: after } = await published<Published>(authority, '/bundle.json');
  expect(after).toBe(before + 1);
  expect(await verified(authority, await jwtSvid(authority, agent, web, 'payments'))).toBe(keyId);

  const replaced = (await make('--replace')).json<{ keyId: string }>();
  await authority.server.end();
  await authority.start();
  await eventually(async () => (await jwtKeys(authority)).join() === replaced.keyId);
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
  // Who has seen the bundle before takes the new one.
  (await authority.vouch('renew', '--dir', agent.dir)).json();
}, 90_000);

it('a token that makes no P-256 key gets none at init, which hinders nothing else, and gets one later', async () => {
  const token = simulatedToken('online');
  token.control('token hide=CKM_EC_KEY_PAIR_GEN');
  const authority = await bootAuthority({ online: token.hsm, init: ['--issuer-key', 'rsa-3072'] });
  const agent = await authority.enroll('agent');
  const web = await createEntry(authority, 'web', 'agent');
  expect(await jwtKeys(authority)).toEqual([]);
  expect(await published(authority, '/.well-known/jwks.json')).toEqual({ keys: [] });
  await expect(jwtSvid(authority, agent, web, 'payments')).rejects.toThrow(/--make-jwt-key/);
  token.calm();
  await authority.server.end();
  const made = await runVouch(['signer', '--config', authority.config, '--make-jwt-key', '--json']);
  const { keyId } = made.json<{ keyId: string }>();
  await authority.start();
  await eventually(async () => (await jwtKeys(authority)).join() === keyId);
  expect(await verified(authority, await jwtSvid(authority, agent, web, 'payments'))).toBe(keyId);
}, 90_000);

it('each of two tokens has one, and the other signs while the first is away', async () => {
  const authority = await bootAuthority({ standby: true });
  const agent = await authority.enroll('agent');
  const web = await createEntry(authority, 'web', 'agent');
  const keys = await jwtKeys(authority);
  expect(new Set(keys).size).toBe(2);
  expect(await verified(authority, await jwtSvid(authority, agent, web, 'payments'))).toBe(keys[0]);
  const putBack = await authority.takeAway('online');
  const token = await eventually(() => jwtSvid(authority, agent, web, 'payments').catch(() => undefined));
  expect(await verified(authority, token)).toBe(keys[1]);
  expect(await jwtKeys(authority)).toEqual(keys);
  putBack();
}, 90_000);
