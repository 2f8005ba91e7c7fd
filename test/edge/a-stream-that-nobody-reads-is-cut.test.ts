import { once } from 'node:events';
import type { TLSSocket } from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { newToken } from '../invariants/support/enrollee.ts';
import { eventually } from '../support/running.ts';
import { softwareAuthority } from '../support/software-authority.ts';
import { Client, listeningServer } from '../invariants/support/listening-server.ts';
import { encodeEvent } from '../../src/watch/encoding.ts';
import { dial } from './client.ts';
import { watch } from './watcher.ts';

const request = 'GET /v1/watch HTTP/1.1\r\nhost: vouch\r\n\r\n';

/** A server in this process, and a certificate that it issued. */
async function opened() {
  const authority = await softwareAuthority();
  const server = await listeningServer(authority);
  onTestFinished(async () => {
    await server.close();
    await authority.close();
  });
  const client = await Client.connect(server);
  const { token } = await newToken(authority, { uses: 1 });
  const { identity } = await client.enroll(token);
  client.close();
  if (!identity) throw new Error('enrolled');
  const key = identity.key.export({ type: 'pkcs8', format: 'pem' }).toString();
  return { server, url: `https://127.0.0.1:${server.port}`, shown: { cert: identity.chainPem, key } };
}

async function silentReader(url: string, shown: object): Promise<TLSSocket> {
  const socket = await dial(url, shown);
  onTestFinished(() => void socket.destroy());
  socket.pause().write(request);
  return socket;
}

it('and what it was not sent costs no memory, while others hear all of it', async () => {
  const { server, url, shown } = await opened();
  await silentReader(url, shown);
  const reader = await watch(url, shown);
  while (server.hub.size < 2) await sleep(5);
  const payload = 'x'.repeat(200_000);
  let sent = 0;
  while (server.hub.size === 2 && sent < 400) {
    sent += 1;
    server.hub.publish({ id: sent, bytes: encodeEvent('test', { payload }, sent) });
    await reader.until(({ id }) => id === String(sent));
  }
  expect(server.hub.size).toBe(1);
  // What the kernel's buffers took of it, and not more than one event beyond.
  expect(sent * payload.length).toBeLessThan(40_000_000);
  server.hub.publish({ id: 1000, bytes: encodeEvent('test', {}, 1000) });
  await reader.until(({ id }) => id === '1000');
});

it('thousands that are half open leave as many as a certificate may have, and a place for others', async () => {
  const { server, url, shown } = await opened();
  for (let round = 0; round < 40; round += 1)
    await Promise.all(Array.from({ length: 50 }, () => silentReader(url, shown)));
  while (server.hub.size < 4) await sleep(5);
  await sleep(100);
  expect(server.hub.size).toBe(4);
  expect((await watch(url, shown)).status).toBe(200);
}, 60_000);

it.each(['0', '-1', '99999999999999999999', 'x'.repeat(40), '1e3', ' 7', '7\t'])(
  'Last-Event-ID %j is as good as none',
  async (id) => {
    const { server, url, shown } = await opened();
    server.hub.announce('a', encodeEvent('state', {}));
    const stream = await watch(url, { ...shown, headers: { 'last-event-id': id } });
    await stream.until(({ event }) => event === 'state');
  },
);

it('a request that goes on with a body is cut as everywhere', async () => {
  const { server, url, shown } = await opened();
  const socket = await dial(url, shown);
  socket.resume().write('GET /v1/watch HTTP/1.1\r\nhost: vouch\r\ncontent-length: 1000\r\n\r\n{');
  await once(socket, 'close');
  await eventually(() => server.hub.size === 0);
}, 30_000);
