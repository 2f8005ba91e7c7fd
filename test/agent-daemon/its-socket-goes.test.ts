import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { runVouch, startVouch } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { startHost } from './support/daemon.ts';

test('an agent makes its socket anew; with another file in its place the status fails, and the file stays, also at the end', async () => {
  const { entries, folder, dir, joinFile } = await startHost();
  entries.create('web');
  const socket = join(folder, 'agent.sock');
  const agent = startVouch(['agent', '--join-file', joinFile, '--dir', dir, '--socket', socket]);
  await agent.until(({ stdout }) => stdout.includes('\n'));
  const status = () => runVouch(['agent', 'status', '--dir', dir]);
  expect((await status()).code).toBe(0);

  rmSync(socket);
  await agent.until(({ stderr }) => stderr.includes(`the socket ${socket} was gone: it is made anew`));
  expect(statSync(socket).mode & 0o777).toBe(0o666);

  rmSync(socket);
  writeFileSync(socket, 'of somebody');
  const failed = await eventually(async () => {
    const ran = await status();
    return ran.code === 1 && ran;
  });
  expect(failed.stdout).toContain(`WORKLOADS CANNOT CONNECT: ${socket} is not the agent's socket any more`);
  rmSync(socket);
  await eventually(async () => (await status()).code === 0);

  rmSync(socket);
  writeFileSync(socket, 'of somebody');
  expect(await agent.end()).toBe(0);
  expect(readFileSync(socket, 'utf8')).toBe('of somebody');
});
