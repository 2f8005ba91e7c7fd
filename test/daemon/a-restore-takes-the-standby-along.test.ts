import { cpSync, renameSync, rmSync } from 'node:fs';
import { expect, it } from 'vitest';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';

async function problems(authority: Authority): Promise<string[]> {
  const ran = await authority.vouch('log', 'verify', '--state', authority.state);
  return (JSON.parse(ran.stdout) as { problems: string[] }).problems;
}

it('a restore that opens another log takes the standby along, also one that was away', async () => {
  const authority = await bootAuthority({ standby: true });
  const backup = authority.path('backup');
  expect((await authority.vouch('backup', backup)).code).toBe(0);
  const orders = await authority.enroll('orders');
  await authority.server.end();
  const refused = await authority.vouch('restore', backup, '--state', authority.state, '--yes');
  expect([refused.code, refused.problem.code]).toEqual([1, 'integrity-rewind']);
  // Nobody has the standby's token at hand.
  renameSync(`${authority.folder}/standby`, `${authority.folder}/standby.gone`);
  const root = `${authority.folder}/root.json`;
  const flags = ['--state', authority.state, '--accept-rewind', '--root-hsm-file', root, '--yes'];
  const restored = await authority.vouch('restore', backup, ...flags);
  const { previousState } = restored.json<{ previousState: string }>();
  expect(restored.json()).toMatchObject({
    rewound: true,
    warnings: expect.arrayContaining([expect.stringContaining('signer of the other token')]),
  });
  // The state from before, whose log the standby still knows: the first has signed a later one, and that counts.
  const database = `${authority.state}/vouch.db`;
  renameSync(database, `${authority.folder}/vouch.db`);
  cpSync(`${previousState}/vouch.db`, database);
  renameSync(`${authority.folder}/standby.gone`, `${authority.folder}/standby`);
  const putBehind = await authority.refusal();
  expect([putBehind.code, putBehind.problem.code]).toEqual([1, 'integrity-log']);
  renameSync(`${authority.folder}/standby`, `${authority.folder}/standby.gone`);
  for (const file of ['-wal', '-shm']) rmSync(database + file, { force: true });
  renameSync(`${authority.folder}/vouch.db`, database);
  await authority.start();
  const issuers = (await authority.status()).issuers.map(({ keyId }) => keyId);
  expect((await authority.enroll('billing')).delivery.issuerKeyId).toBe(issuers[0]);
  renameSync(`${authority.folder}/standby.gone`, `${authority.folder}/standby`);
  await eventually(async () => (await authority.status()).standby?.state === 'usable', 20_000);
  await authority.takeAway('online');
  await eventually(async () => (await authority.issuing()) === issuers[1], 20_000);
  expect((await authority.enroll('shipping')).delivery.issuerKeyId).toBe(issuers[1]);
  // What was issued behind the backup is in no state.
  expect((await authority.vouch('renew', '--dir', orders.dir, '--timeout', '1')).code).toBe(1);
  expect(await problems(authority)).toEqual([]);
}, 120_000);
