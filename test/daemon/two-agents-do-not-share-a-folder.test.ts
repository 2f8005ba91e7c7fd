import { expect, it } from 'vitest';
import { bootAuthority, runVouch, startVouch } from '../support/daemon.ts';

it('the second is refused and says why; a kill of the first leaves the folder to the next at once', async () => {
  const authority = await bootAuthority();
  const { path: joinFile } = await authority.join('host/one');
  const dir = authority.path('agent');
  const flags = () => [
    'agent',
    '--join-file',
    joinFile,
    '--dir',
    dir,
    '--socket',
    authority.path('s'),
    '--json',
  ];
  const start = async () => {
    const agent = startVouch(flags());
    await agent.until(({ stdout }) => stdout.includes('ready'));
    return agent;
  };
  const first = await start();
  const second = await runVouch(flags());
  expect(second.code).toBe(78);
  expect(second.problem).toMatchObject({
    code: 'config-in-use',
    detail: expect.stringContaining(`another agent runs in ${dir}`) as unknown,
  });
  expect(first.code).toBeUndefined();
  await first.end('SIGKILL');
  expect(await (await start()).end()).toBe(0);
});
