import { X509Certificate } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { parseSerial } from '../../src/core/serial.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { type Authority, bootAuthority, startVouch } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { limitMs } from '../support/limits.ts';

/** A workload that never asks for CRLs once it runs: what it learns, it is told. */
async function told(authority: Authority) {
  const { path } = await authority.join('orders');
  const dir = authority.path('orders');
  const script = "setInterval(() => {}, 1000); console.log('up')";
  const flags = ['--join-file', path, '--out', dir, '--crl-refresh', '24h'];
  const running = startVouch(['exec', ...flags, '--', process.execPath, '-e', script]);
  await running.until(({ stdout }) => stdout.includes('up'));
  const isListed = (serial: string, file = 'crl.pem'): boolean =>
    existsSync(`${dir}/current/${file}`) &&
    decodePem(readFileSync(`${dir}/current/${file}`, 'utf8'), 'X509 CRL').some((der) =>
      parseCrl(der).has(parseSerial(serial)),
    );
  const serial = () =>
    new X509Certificate(readFileSync(`${dir}/current/svid.pem`)).serialNumber.toLowerCase();
  return { running, isListed, serial };
}

/** Whether the server has a stream open; it refuses no other certificate of ours. */
const streams = async (authority: Authority): Promise<number> => {
  const text = await (await fetch(`${authority.server.ready.operationsUrl}/metrics`)).text();
  return Number(/^vouch_watch_streams (\d+)$/m.exec(text)?.[1]);
};

it('each is heard of, whatever became of the server before, during or after it', async () => {
  const authority = await bootAuthority();
  const victims = await Promise.all(['a', 'b', 'c', 'd'].map((name) => authority.enroll(name)));
  const revoke = async (): Promise<string> => {
    const { serial } = victims.pop() ?? { serial: '' };
    (await authority.vouch('revoke', '--serial', serial, '--reason', 'superseded')).json();
    return serial;
  };
  const { running, isListed, serial } = await told(authority);
  await eventually(async () => (await streams(authority)) === 1);

  const first = await revoke();
  const started = performance.now();
  await eventually(() => isListed(first));
  expect(performance.now() - started).toBeLessThan(limitMs(2000));
  await eventually(() => isListed(first, 'crl-delta.pem'));

  // Told to go, it says when to come back, and does not wait for who listens.
  const endingMs = performance.now();
  await authority.server.end();
  expect(performance.now() - endingMs).toBeLessThan(limitMs(4000));
  await authority.start();
  const second = await revoke();
  await eventually(() => isListed(second), 20_000);

  // Killed while one is on its way.
  const revoking = revoke();
  revoking.catch(() => undefined);
  await new Promise((done) => setTimeout(done, 150));
  await authority.server.end('SIGKILL');
  await authority.start();
  const third = await revoking.catch(() => undefined);
  const fourth = await revoke();
  await eventually(() => isListed(fourth), 30_000);
  if (third !== undefined) expect(isListed(third)).toBe(true);

  // An order to renew reaches it on the same stream.
  const before = serial();
  expect((await authority.vouch('cert', 'renew-now', '--id', authority.id('orders'))).json()).toMatchObject({
    told: 1,
  });
  await eventually(() => serial() !== before, 30_000);

  // Its own revocation ends its stream, and it is told why.
  (await authority.vouch('revoke', '--serial', serial(), '--reason', 'keyCompromise')).json();
  await running.until(({ stderr }) => /REVOKED: .*revoked/.test(stderr), 10_000);
  expect(await streams(authority)).toBe(0);
  running.signal('SIGTERM');
  await running.ended();
}, 120_000);
