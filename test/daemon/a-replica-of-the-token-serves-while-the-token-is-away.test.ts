// Some vendors replicate a token with its keys; a copied SoftHSM folder stands for that. Vouch itself copies no keys.
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Authority, initAuthority, type Token } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';

/** A copy of the online token as it is now, under an address of its own. */
function replicate({ folder, tokens }: Authority): Token {
  const [from, to] = [join(folder, 'online'), join(folder, 'replica')];
  cpSync(from, to, { recursive: true, preserveTimestamps: true });
  const moved = (path: string): string => path.replace(from, to);
  const { SOFTHSM2_CONF = '', ...rest } = tokens.online.environment;
  const conf = moved(SOFTHSM2_CONF);
  writeFileSync(conf, readFileSync(conf, 'utf8').replaceAll(from, to));
  const environment = { ...rest, SOFTHSM2_CONF: conf };
  return { ...tokens.online, pinFile: moved(tokens.online.pinFile), environment };
}

it('with the same keys, until the token is back; marks of the signer go on over both', async () => {
  const authority = await initAuthority();
  const copies = join(authority.folder, 'old');
  cpSync(authority.state, copies, { recursive: true });
  const replica = replicate(authority);
  authority.configure((config) => Object.assign(config.hsm, { replicas: [replica] }));
  await authority.start();
  const before = await authority.enroll('orders');
  const putBack = await authority.takeAway('online');
  const after = await authority.enroll('billing');
  expect(after.delivery.issuerKeyId).toBe(before.delivery.issuerKeyId);
  expect(await authority.status()).toMatchObject({ state: 'ready', signer: { state: 'usable' } });
  // The guard that the copy holds is from before; the floor is not, and leads.
  await authority.server.end();
  await authority.start();
  await authority.enroll('payments');
  putBack();
  const { signer } = await authority.status();
  process.kill(signer.pid ?? 0, 'SIGKILL');
  await eventually(async () => (await authority.status()).signer.restarts === 1);
  await authority.enroll('shipping');
  await authority.server.end();
  const { problems } = (await authority.vouch('log', 'verify', '--state', authority.state)).json<{
    problems: string[];
  }>();
  expect(problems).toEqual([]);

  // A state from before the replica was made, beside the floor of today: no guard is needed to see that.
  for (const name of ['vouch.db', 'vouch.db-wal', 'vouch.db-shm', 'log'])
    rmSync(join(authority.state, name), { recursive: true, force: true });
  cpSync(join(copies, 'vouch.db'), join(authority.state, 'vouch.db'));
  const refused = await authority.refusal();
  expect([refused.code, refused.problem.code]).toEqual([1, 'integrity-rewind']);
}, 90_000);
