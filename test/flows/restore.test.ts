import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { bootAuthority } from '../support/daemon.ts';

interface Certificates {
  certificates: { serial: string; state: string }[];
}

test('a backup that is behind goes back only with the root, and then nobody is revived', async () => {
  const authority = await bootAuthority();
  const verb = (...args: string[]) => authority.vouch(...args);
  const known = await authority.join('known', '--uses', '3');
  const knownDir = authority.path('known');
  expect((await verb('enroll', '--join-file', known.path, '--out', knownDir)).code).toBe(0);
  const backup = authority.path('backup');
  expect((await verb('backup', backup)).json()).toMatchObject({ file: backup });
  expect((await verb('backup', backup)).problem.code, 'an existing file is never replaced').toBe(
    'config-state',
  );
  const nowhere = await verb('backup', join(authority.folder, 'nowhere', 'backup'));
  expect(nowhere.problem, 'a folder that the server cannot write').toMatchObject({
    code: 'config-state',
    detail: expect.stringContaining('take it away from there') as unknown,
  });

  const lostDir = authority.path('lost');
  expect((await verb('enroll', '--join-file', known.path, '--out', lostDir)).code).toBe(0);
  const lost = (await verb('cert', 'list')).json<Certificates>().certificates[0]?.serial ?? '';
  expect((await verb('revoke', '--serial', lost, '--reason', 'superseded')).json()).toMatchObject({
    published: true,
  });

  const running = await verb('restore', backup);
  expect(running.problem.code, 'not while a server runs').toBe('config-in-use');
  await authority.server.end();

  const behind = await verb('restore', backup);
  expect(behind.code).toBe(1);
  expect(behind.problem).toMatchObject({
    code: 'integrity-rewind',
    detail: expect.stringContaining('--accept-rewind'),
  });
  expect(
    readdirSync(authority.folder).filter((name) => name.startsWith('s.')),
    'nothing half done stays',
  ).toEqual([]);
  const unsure = await verb(
    'restore',
    backup,
    '--accept-rewind',
    '--root-hsm-file',
    join(authority.folder, 'root.json'),
  );
  expect(unsure.code, 'it asks, and without a terminal needs --yes').toBe(2);
  expect((await verb('restore', backup, '--accept-rewind', '--yes')).problem.detail).toContain(
    '--root-hsm-file',
  );

  const back = (
    await verb(
      'restore',
      backup,
      '--accept-rewind',
      '--yes',
      '--root-hsm-file',
      join(authority.folder, 'root.json'),
    )
  ).json<{
    logOrigin: string;
    importedRevocations: number;
    previousState: string;
    warnings: string[];
  }>();
  expect(back).toMatchObject({
    rewound: true,
    importedRevocations: 1,
    logOrigin: expect.stringContaining(`${authority.trustDomain}/vouch-log-`),
  });
  expect(existsSync(join(back.previousState, 'vouch.db')), 'what stood there is kept').toBe(true);
  expect(back.warnings.join()).toContain('cannot renew');

  await authority.start();
  expect((await verb('renew', '--dir', knownDir)).code, 'who is known follows the new log').toBe(0);
  expect((await verb('renew', '--dir', lostDir)).problem.code, 'who is not known cannot renew').toMatch(
    /denied-/,
  );
  const crls = (await verb('crl', 'show')).json<{ crls: { scope: string; url: string }[] }>().crls;
  const full = await fetch(crls.find((crl) => crl.scope === 'full')?.url ?? '');
  expect(
    Buffer.from(await full.arrayBuffer()).includes(Buffer.from(lost, 'hex')),
    'the lost certificate stays revoked',
  ).toBe(true);
  expect((await verb('log', 'verify', '--state', authority.state)).json()).toMatchObject({ problems: [] });
}, 60_000);

interface Rewound {
  importedRevocations: number;
  warnings: string[];
}

/** An authority with a backup, after which an identity, a token and a use have ended. */
async function endedSinceBackup() {
  const authority = await bootAuthority();
  const verb = (...args: string[]) => authority.vouch(...args);
  const evil = await authority.join('evil', '--uses', '3');
  const once = await authority.join('once');
  const dead = await authority.join('dead');
  const fresh = await authority.join('fresh');
  const enroll = (file: string) => verb('enroll', '--join-file', file, '--out', authority.path('out'));
  (await enroll(evil.path)).json();
  const backup = authority.path('backup');
  const workload = ['--id', authority.id('workload'), '--parent', authority.id('host')];
  const { entryId } = (await verb('entry', 'create', ...workload, '--selector', 'unix:uid:1')).json<{
    entryId: string;
  }>();
  (await verb('backup', backup)).json();
  (await verb('entry', 'delete', entryId, '--yes')).json();
  (await verb('revoke', '--id', authority.id('evil'), '--reason', 'keyCompromise')).json();
  (await verb('token', 'revoke', dead.tokenId)).json();
  const { serial } = (await enroll(once.path)).json<{ serial: string }>();
  (await verb('revoke', '--serial', serial, '--reason', 'keyCompromise')).json();
  await authority.server.end();
  const rewind = async () => {
    const root = join(authority.folder, 'root.json');
    const args = ['--state', authority.state, '--accept-rewind', '--yes', '--root-hsm-file', root];
    return (await verb('restore', backup, ...args)).json<Rewound>();
  };
  const verified = async () =>
    (await verb('log', 'verify', '--state', authority.state)).json<{ problems: string[] }>().problems;
  return { authority, rewind, enroll, verified, evil, once, dead, fresh, entryId };
}

test('a rewind revives nothing that had ended in the state that stood there', async () => {
  const { authority, rewind, enroll, verified, evil, once, dead, fresh, entryId } = await endedSinceBackup();
  const back = await rewind();
  expect(back.importedRevocations).toBe(2);
  expect(back.warnings.join()).not.toContain('join tokens');
  await authority.start();
  expect((await enroll(evil.path)).problem.code).toBe('denied-suspended');
  expect((await authority.vouch('entry', 'show', entryId)).problem.code).toBe('request-not-found');
  expect((await enroll(dead.path)).problem.code).toBe('denied-token-revoked');
  expect((await enroll(once.path)).problem.code).toBe('denied-token-revoked');
  expect((await enroll(fresh.path)).json()).toMatchObject({ spiffeId: authority.id('fresh') });
  const { certificates } = (
    await authority.vouch('cert', 'list', '--id', authority.id('evil'))
  ).json<Certificates>();
  expect(certificates.map(({ state }) => state)).toEqual(['revoked']);
  expect(await verified()).toEqual([]);
}, 60_000);

test('where that state is lost, no join token of the backup counts any more, and that is said', async () => {
  const { authority, rewind, enroll, verified, once, dead, fresh } = await endedSinceBackup();
  rmSync(authority.state, { recursive: true });
  const { warnings } = await rewind();
  expect(warnings.join()).toContain('join tokens of the backup that still counted were ended (4)');
  expect(warnings.join()).toContain('`vouch revoke --id`');
  await authority.start();
  for (const { path } of [once, dead, fresh])
    expect((await enroll(path)).problem.code).toBe('denied-token-revoked');
  expect(await verified()).toEqual([]);
}, 60_000);

test('one backup goes back more than once, each time into a log of its own', async () => {
  const authority = await bootAuthority();
  const backup = authority.path('backup');
  expect((await authority.vouch('backup', backup)).code).toBe(0);
  await authority.enroll('later');
  await authority.server.end();
  const root = join(authority.folder, 'root.json');
  const again = async () => {
    const args = ['--state', authority.state, '--accept-rewind', '--yes', '--root-hsm-file', root];
    return (await authority.vouch('restore', backup, ...args)).json<{ logOrigin: string }>().logOrigin;
  };
  const first = await again();
  await authority.start();
  await authority.enroll('after');
  await authority.server.end();
  // The disk is lost: what is left is the token, the root and the backup, which knows of no earlier restore.
  rmSync(authority.state, { recursive: true });
  expect(new Set([first, await again(), await again()]).size).toBe(3);
  await authority.start();
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
}, 60_000);

test('a backup of the present goes back without the root', async () => {
  const authority = await bootAuthority();
  const backup = authority.path('backup');
  await authority.server.end();
  await authority.start();
  expect((await authority.vouch('backup', backup)).code).toBe(0);
  await authority.server.end();
  const back = await authority.vouch('restore', backup);
  expect(back.json()).toMatchObject({ rewound: false, importedRevocations: 0 });
  await authority.start();
  expect((await authority.vouch('status')).json()).toMatchObject({ state: 'ready' });
}, 60_000);

test('a damaged backup is refused before anything is touched', async () => {
  const authority = await bootAuthority();
  await authority.server.end();
  const ran = await authority.vouch('restore', join(authority.folder, 'online.json'));
  expect(ran.code).not.toBe(0);
  expect((await authority.vouch('restore', '/nowhere')).problem).toMatchObject({
    code: 'config-state',
    detail: expect.stringContaining('/nowhere'),
  });
  await authority.start();
  expect((await authority.vouch('status')).json()).toMatchObject({ state: 'ready' });
}, 60_000);
