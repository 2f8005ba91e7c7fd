import { beforeEach, expect, it } from 'vitest';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { type Rule, type SimulatedToken, simulatedToken } from '../support/hsm-sim.ts';
import { eventually } from '../support/running.ts';
import { signalTo } from '../support/signal.ts';

let token: SimulatedToken;
let authority: Authority;
/** Counts each login, and refuses the first ones. */
const refusing = (first: number): Rule[] => [
  { on: 'C_Login', do: { delay: 0 } },
  { on: 'C_Login', do: { error: 'CKR_PIN_INCORRECT' }, first },
];
const signer = async () =>
  (await authority.vouch('status')).json<{
    signer: { state: string; lastProblem: string | null };
    problems: string[];
  }>();
const readyz = async () => {
  const answer = await fetch(`${authority.server.ready.operationsUrl}/readyz`);
  return { status: answer.status, text: await answer.text() };
};
const metrics = async () => (await fetch(`${authority.server.ready.operationsUrl}/metrics`)).text();

beforeEach(async () => {
  token = simulatedToken('online');
  authority = await bootAuthority({ online: token.hsm });
});

it('neither the signer nor a start of the server presents it again, until an operator says so', async () => {
  token.control(refusing(1));
  signalTo(authority.server.ready.signerPid, 'SIGKILL');
  await eventually(async () => (await signer()).signer.state === 'unusable');
  expect((await signer()).problems.join()).toContain('CKR_PIN_INCORRECT');
  expect(await readyz()).toMatchObject({
    status: 503,
    text: expect.stringContaining('unusable: the token'),
  });
  expect(await metrics()).toContain('vouch_signer_state{state="unusable"} 1');
  await authority.server.end();
  expect((await authority.refusal()).problem.code).toBe('config-pin');
  // Though it would be taken now.
  expect(token.fired()).toEqual([1, 1]);
});

it('`vouch doctor --retry-signer` has it presented once more, and is logged', async () => {
  token.control(refusing(2));
  const killed = authority.server.ready.signerPid;
  signalTo(killed, 'SIGKILL');
  await eventually(async () => (await signer()).signer.state === 'unusable');
  const refused = await authority.vouch('doctor', '--retry-signer');
  expect(refused.code).toBe(1);
  expect(JSON.parse(refused.stdout)).toMatchObject({
    state: 'unusable',
    problem: expect.stringContaining('PIN'),
    remedy: expect.stringContaining(token.hsm.pinFile),
  });
  expect(token.fired()).toEqual([2, 2]);
  const { state } = (await authority.vouch('doctor', '--retry-signer')).json<{ state: string }>();
  expect(state).toBe('usable');
  expect(token.fired()).toEqual([3, 2]);
  await authority.enroll('orders');
  expect((await readyz()).status).toBe(200);
  const text = await metrics();
  expect(text).toContain('vouch_signer_state{state="usable"} 1');
  expect(text).toMatch(/vouch_signer_failures_total\{class="process"\} 1/);
  const { records } = (await authority.vouch('audit')).json<{ records: { verb?: string }[] }>();
  expect(JSON.stringify(records).match(/signer-retry/g)).toHaveLength(2);
});
