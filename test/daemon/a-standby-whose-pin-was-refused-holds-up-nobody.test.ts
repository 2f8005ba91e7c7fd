import { readFileSync, writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { bootAuthority } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { signalTo } from '../support/signal.ts';

it('the first goes on as the same process, and `vouch doctor --retry-signer` tells of the standby', async () => {
  const authority = await bootAuthority({ standby: true });
  const before = await authority.status();
  const pinFile = authority.tokens.standby?.pinFile ?? '';
  const pin = readFileSync(pinFile);
  writeFileSync(pinFile, '000000');
  signalTo(before.standby?.pid ?? 0, 'SIGKILL');
  await eventually(async () => (await authority.status()).standby?.state === 'unusable');
  expect((await authority.enroll('orders')).delivery.issuerKeyId).toBe(await authority.issuing());

  const refused = await authority.vouch('doctor', '--retry-signer');
  expect(refused.code).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    state: 'unusable',
    problem: expect.stringMatching(/^standby: .*PIN/),
    remedy: expect.stringContaining(pinFile),
  });
  writeFileSync(pinFile, pin);
  const mended = await authority.vouch('doctor', '--retry-signer');
  expect([mended.code, mended.json()]).toEqual([0, { state: 'usable', problem: null, remedy: null }]);
  const after = await eventually(async () => {
    const status = await authority.status();
    return status.state === 'ready' && status;
  });
  expect(after.signer.pid).toBe(before.signer.pid);
  expect(after.standby?.state).toBe('usable');
}, 60_000);
