import { expect, it } from 'vitest';
import { AgentHost } from '../support/agent-host.ts';
import { bootAuthority } from '../support/daemon.ts';

it('once, when it gets the entry, at its start and later', async () => {
  const host = await AgentHost.of(await bootAuthority(), 'host/a');
  await host.entry('web', 'unix:user:st-wbe');
  await host.entry('root', 'unix:user:root');
  const agent = await host.start();
  const told =
    /no process of this host fits: unix:user:st-wbe \(entry e_\w+; no number goes by this name in /;
  await agent.until(({ stderr }) => told.test(stderr));
  await host.entry('db', 'unix:path:/usr/bin/no-such-program');
  await agent.until(({ stderr }) => stderr.includes('fits: unix:path:/usr/bin/no-such-program '));
  expect(agent.stderr.match(/st-wbe/g)).toHaveLength(1);
  expect(agent.stderr).not.toContain('unix:user:root');
});
