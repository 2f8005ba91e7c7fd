import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startHost } from '../../agent-daemon/support/daemon.ts';
import { service } from '../../client/support.ts';
import { startVouch } from '../../support/daemon.ts';
import { freePort } from '../../support/ports.ts';
import { eventually } from '../../support/running.ts';
import { dial, plainServer, shown } from './support.ts';

test('an agent runs the proxies of its configuration, in with one identity and out with another', async () => {
  const { authority, entries, folder, dir, joinFile } = await startHost();
  const web = entries.create('web', {
    allowedClients: ['spiffe://example.org/gateway', 'spiffe://example.org/other'],
  });
  entries.create('gateway');
  const plain = await plainServer();
  const [inPort, outPort] = [await freePort(), await freePort()];
  const config = {
    joinFile,
    dir,
    socket: join(folder, 'agent.sock'),
    proxy: [
      { id: 'spiffe://example.org/web', listen: `127.0.0.1:${inPort}`, to: `127.0.0.1:${plain.port}` },
      {
        id: 'spiffe://example.org/gateway',
        listen: `127.0.0.1:${outPort}`,
        to: `127.0.0.1:${inPort}`,
        expect: 'spiffe://example.org/web',
      },
    ],
  };
  const file = join(folder, 'agent.yaml');
  writeFileSync(file, JSON.stringify(config));
  const agent = startVouch(['agent', '--config', file, '--json']);
  await agent.until(({ stdout }) => stdout.includes('\n'));
  /** What comes back through both proxies. */
  const echoed = async (): Promise<string> => {
    const caller = dial(outPort);
    caller.socket.end('through both');
    await caller.over;
    return caller.text();
  };
  await eventually(async () => (await echoed()) === 'through both');
  const other = dial(inPort, shown(await service(authority, 'other')));
  other.socket.write('hello');
  await eventually(() => other.text() === 'hello');
  const stranger = dial(inPort, shown(await service(authority, 'stranger')));
  await stranger.over;
  expect(stranger.text()).toBe('');

  entries.change(web, { allowedClients: ['spiffe://example.org/gateway'] });
  expect(await other.over).toBe('ECONNRESET');
  await eventually(async () => (await echoed()) === 'through both');
  const status = await eventually(async () => {
    const ran = await startVouch(['agent', 'status', '--config', file, '--json']).ended();
    const { parts } = ran.json<{ parts: { proxy?: { cut: number }[] } }>();
    return parts.proxy?.[0]?.cut === 1 ? parts.proxy : undefined;
  });
  expect(status[0]).toMatchObject({ listen: `127.0.0.1:${inPort}`, refused: 1 });
  expect(await agent.end('SIGTERM')).toBe(0);
});
