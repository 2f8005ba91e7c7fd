import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type Authority, initAuthority, startVouch } from '../support/daemon.ts';
import { eventually, type Running } from '../support/running.ts';

async function listening(authority: Authority, socket: string, ...flags: string[]): Promise<Running> {
  const signer = startVouch(['signer', '--config', authority.config, '--listen', socket, ...flags]);
  await signer.until(({ stderr }) => stderr.includes('the signer listens'));
  return signer;
}

it('each with its own token; two that were mixed up sign nothing for each other', async () => {
  const authority = await initAuthority({ standby: true });
  const [one, two] = [join(authority.folder, '1'), join(authority.folder, '2')];
  const sockets = (first: string, second: string): void =>
    authority.configure((config) => {
      Object.assign(config, { signer: { socket: first } });
      Object.assign(config.standby ?? {}, { signer: { socket: second } });
    });
  sockets(one, two);
  const first = await listening(authority, one);
  await listening(authority, two, '--standby');
  await authority.start();
  await eventually(async () => (await authority.status()).state === 'ready');
  const [issuer, standby] = (await authority.status()).issuers.map(({ keyId }) => keyId);
  expect((await authority.enroll('orders')).delivery.issuerKeyId).toBe(issuer);
  await first.end('SIGKILL');
  await eventually(async () => (await authority.issuing()) === standby, 20_000);
  expect((await authority.enroll('billing')).delivery.issuerKeyId).toBe(standby);
  await authority.server.end();

  await listening(authority, one);
  sockets(two, one);
  const refused = await authority.refusal();
  expect([refused.code, refused.problem.detail]).toEqual([
    78,
    expect.stringContaining('does not sign for the issuer'),
  ]);
}, 90_000);

it('the standby is none that the configuration does not name', async () => {
  const authority = await initAuthority();
  const ran = await startVouch([
    ...['signer', '--config', authority.config],
    ...['--listen', join(authority.folder, '1'), '--standby', '--json'],
  ]).ended();
  expect([ran.code, ran.problem]).toEqual([78, expect.objectContaining({ code: 'config-invalid' })]);
});
