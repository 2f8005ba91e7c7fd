import { EventEmitter, once } from 'node:events';
import net from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { boundConnections, connectionBounds, releaseAddress } from '../../src/http/connection-bounds.ts';
import { eventually } from '../support/running.ts';

let server: net.Server | undefined;
const clients: net.Socket[] = [];

afterEach(() => {
  for (const client of clients.splice(0)) client.destroy();
  server?.close();
});

/** A listener with room for eight connections, two of one address. */
async function listening(): Promise<number> {
  server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    // In a later turn: whoever is cut hears nothing.
    setImmediate(() => socket.writable && socket.write('hello'));
  });
  boundConnections(server, { listener: 8, address: 2 });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  return typeof address === 'object' && address ? address.port : 0;
}

/** True where the connection stays, false where it is cut. */
async function stays(port: number, localAddress: string): Promise<boolean> {
  const client = net.connect({ port, host: '127.0.0.1', localAddress });
  clients.push(client);
  client.on('error', () => undefined);
  const gone = new Promise<boolean>((done) => client.once('close', () => done(false)));
  await once(client, 'connect');
  client.resume();
  const greeted = new Promise<boolean>((done) => client.once('data', () => done(true)));
  return Promise.race([gone, greeted]);
}

it('one address has its share, and others have theirs', async () => {
  const port = await listening();
  expect(await stays(port, '127.0.0.2')).toBe(true);
  expect(await stays(port, '127.0.0.2')).toBe(true);
  expect(await stays(port, '127.0.0.2')).toBe(false);
  expect(await stays(port, '127.0.0.3')).toBe(true);
});

it('what is closed makes room', async () => {
  const port = await listening();
  await stays(port, '127.0.0.2');
  await stays(port, '127.0.0.2');
  clients[0]?.destroy();
  await eventually(() => stays(port, '127.0.0.2'));
});

it('what has a bound of its own is no longer one of its address, and gives its place back once', async () => {
  const port = await listening();
  const incoming: net.Socket[] = [];
  server?.on('connection', (socket: net.Socket) => incoming.push(socket));
  await stays(port, '127.0.0.2');
  await stays(port, '127.0.0.2');
  for (const socket of incoming.slice(0, 1)) {
    releaseAddress(socket);
    releaseAddress(socket);
  }
  expect(await stays(port, '127.0.0.2')).toBe(true);
  expect(await stays(port, '127.0.0.2')).toBe(false);
  clients[0]?.destroy();
  while (incoming[0]?.destroyed === false) await new Promise((done) => setTimeout(done, 5));
  expect(await stays(port, '127.0.0.2')).toBe(false);
});

it.each([1024, 4096, 65_536, 1_048_576])(
  'with %i descriptors, streams of events leave room for who enrolls',
  (descriptors) => {
    const { listener, streams, streamsOfIdentity } = connectionBounds(descriptors);
    expect(streams).toBeLessThanOrEqual(listener * 0.6);
    expect(streamsOfIdentity).toBeLessThanOrEqual(Math.min(2000, listener / 4));
    expect(streamsOfIdentity).toBeGreaterThan(4);
  },
);

it('ends that come again before their close is told take no place for ever', () => {
  const taking = new EventEmitter() as unknown as net.Server;
  boundConnections(taking, { listener: 8, address: 2 });
  const ends = { remoteAddress: '10.0.0.1', remotePort: 1, localAddress: '10.0.0.2', localPort: 2 };
  const isTaken = (): [boolean, EventEmitter] => {
    let isCut = false;
    const socket = Object.assign(new EventEmitter(), ends, { destroy: () => void (isCut = true) });
    taking.emit('connection', socket as unknown as net.Socket);
    return [!isCut, socket];
  };
  for (let round = 0; round < 10; round += 1) {
    const [[first, before], [second, after]] = [isTaken(), isTaken()];
    expect([first, second]).toEqual([true, true]);
    before.emit('close');
    after.emit('close');
  }
});
