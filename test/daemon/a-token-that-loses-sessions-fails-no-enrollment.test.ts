import { expect, it } from 'vitest';
import { enroll, newKey } from '../edge/client.ts';
import { bootAuthority } from '../support/daemon.ts';
import { simulatedToken } from '../support/hsm-sim.ts';
import { eventually } from '../support/running.ts';

interface SignerView {
  pid: number;
  restarts: number;
  sessions: { open: number; wanted: number };
  failures: { session: number; login: number };
}

const clients = 8;
const rounds = 25;

it(`${clients} clients enroll while the token forgets every session, and its login, again and again: none fails, and the signer's process stays`, async () => {
  const token = simulatedToken('online');
  const authority = await bootAuthority({
    online: token.hsm,
    configure: (config) => {
      config.signer = { sessions: 4 };
    },
  });
  const { path } = await authority.join('orders', '--uses', '10000');
  const { enrollmentUrl, signerPid } = authority.server.ready;
  token.control([
    { on: 'C_Sign', do: 'lose-sessions', every: 37 },
    { on: 'C_SignInit', do: 'lose-login', every: 101 },
  ]);
  const statuses = await Promise.all(
    Array.from({ length: clients }, async () => {
      const own: number[] = [];
      for (let round = 0; round < rounds; round += 1)
        own.push((await enroll(enrollmentUrl, path, newKey())).status);
      return own;
    }),
  );
  expect(statuses.flat().filter((status) => status !== 200)).toEqual([]);
  for (const fired of token.fired()) expect(fired).toBeGreaterThan(1);
  const signer = await eventually(async () => {
    const status = (await authority.vouch('status')).json<{ signer: SignerView }>().signer;
    return status.failures.session > 1 && status.failures.login > 1 ? status : undefined;
  });
  expect(signer).toMatchObject({ pid: signerPid, restarts: 0, sessions: { open: 4, wanted: 4 } });
  const metrics = await (await fetch(`${authority.server.ready.operationsUrl}/metrics`)).text();
  expect(metrics).toContain('vouch_signer_sessions{kind="open"} 4');
  expect(metrics).toMatch(/vouch_signer_failures_total\{class="session"\} [1-9]/);
});
