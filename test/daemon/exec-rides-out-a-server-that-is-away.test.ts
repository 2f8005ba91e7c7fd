import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parseCrl } from '../../src/x509/crl.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { bootAuthority, startVouch } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';

const workload = `
  process.on('SIGTERM', () => process.exit(9));
  setInterval(() => {}, 1000); console.log('up');`;

it.concurrent('the workload runs on through half life, renews when the server is back, and its hook hears of each change', async () => {
  const authority = await bootAuthority();
  const [other, { path }] = await Promise.all([
    authority.enroll('other'),
    authority.join('orders', '--lifetime', '2m'),
  ]);
  const dir = authority.path('orders');
  const changes = authority.path('changes');
  const clock = new ShiftedClock(authority.path('time'));
  const hook = `exec:echo "$VOUCH_CHANGE $VOUCH_DIR" >> ${changes}`;
  const flags = ['--join-file', path, '--out', dir, '--on-change', hook];
  const running = startVouch(['exec', ...flags, '--', process.execPath, '-e', workload], { env: clock.env });
  await running.until(({ stdout }) => stdout.includes('up'));
  const serial = () => new X509Certificate(readFileSync(`${dir}/current/svid.pem`)).serialNumber;
  const heard = () => (existsSync(changes) ? readFileSync(changes, 'utf8') : '');
  const first = serial();

  await authority.server.end();
  // Past the latest moment of its window; it looks at the wall clock each 15 s at the latest.
  clock.set('+75s');
  await running.until(
    ({ stderr }) => /cannot renew: .*ECONNREFUSED.*what is held is valid until/.test(stderr),
    20_000,
  );
  expect(running.code).toBeUndefined();
  expect(serial()).toBe(first);

  await authority.start();
  await running.until(({ stderr }) => stderr.includes('renewed: the server is back'), 20_000);
  expect(serial()).not.toBe(first);
  await eventually(() => heard().includes(`certificate ${dir}\n`));
  const { certificates } = (await authority.vouch('cert', 'list', '--id', authority.id('orders'))).json<{
    certificates: { predecessor: string | null }[];
  }>();
  expect(certificates.map(({ predecessor }) => predecessor?.toUpperCase() ?? null)).toEqual([first, null]);

  (await authority.vouch('revoke', '--serial', other.serial, '--reason', 'superseded')).json();
  await eventually(() =>
    decodePem(readFileSync(`${dir}/current/crl.pem`, 'utf8'), 'X509 CRL').some((der) =>
      parseCrl(der).has(other.serial as never),
    ),
  );
  await eventually(() => heard().includes(`crl ${dir}\n`));

  running.signal('SIGTERM');
  expect((await running.ended()).code).toBe(9);
}, 60_000);

it.concurrent('a revoked workload is told, goes on by default, and is ended with --on-revoked stop', async () => {
  const authority = await bootAuthority();
  const start = async (...flags: readonly string[]) => {
    const { path } = await authority.join('orders');
    const dir = authority.path('orders');
    const running = startVouch([
      'exec',
      '--join-file',
      path,
      '--out',
      dir,
      ...flags,
      '--',
      process.execPath,
      '-e',
      workload,
    ]);
    await running.until(({ stdout }) => stdout.includes('up'));
    return {
      running,
      serial: new X509Certificate(readFileSync(`${dir}/current/svid.pem`)).serialNumber.toLowerCase(),
    };
  };
  const [keeps, stops] = await Promise.all([start(), start('--on-revoked', 'stop')]);
  for (const { serial } of [keeps, stops])
    (await authority.vouch('revoke', '--serial', serial, '--reason', 'keyCompromise')).json();
  expect((await stops.running.ended()).code).toBe(9);
  await keeps.running.until(({ stderr }) => /REVOKED: .*goes on running/.test(stderr));
  expect(keeps.running.code).toBeUndefined();
  keeps.running.signal('SIGTERM');
  expect((await keeps.running.ended()).code).toBe(9);
});
