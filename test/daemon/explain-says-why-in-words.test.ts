import { beforeAll, expect, it } from 'vitest';
import { AgentHost } from '../support/agent-host.ts';
import { type Authority, bootAuthority, runVouch } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

const explained = async (serial: string) =>
  (await runVouch(['explain', serial, '--config', authority.config])).stdout;

it('a field a line, and no JSON', async () => {
  const { serial } = await authority.enroll('orders');
  const stdout = await explained(serial);
  expect(stdout).toMatch(/^profile +\S+$/m);
  expect(stdout).toMatch(/^evidence peer address +127\./m);
  expect(stdout).not.toMatch(/[{}"]/);
});

it('of a workload’s certificate its agent, its entry and the selectors that it takes', async () => {
  const host = await AgentHost.of(authority, 'host/a');
  const entryId = await host.entry('web', 'unix:uid:54321', '--selector', 'unix:gid:54321');
  await host.start();
  const issued = async () =>
    (await authority.vouch('cert', 'list', '--id', authority.id('web'))).json<{
      certificates: { serial: string }[];
    }>().certificates[0]?.serial;
  const stdout = await explained(await eventually(issued));
  expect(stdout).toMatch(/^issued +\S+, to an agent for its workload$/m);
  expect(stdout).toMatch(new RegExp(`^agent +${host.id}$`, 'm'));
  expect(stdout).toMatch(new RegExp(`^entry +${entryId} \\(unix:uid:54321, unix:gid:54321\\)$`, 'm'));
});
