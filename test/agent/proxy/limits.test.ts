import { readdirSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls, createSecureContext, createServer as createTlsServer } from 'node:tls';
import { expect, onTestFinished, test } from 'vitest';
import { service } from '../../client/support.ts';
import { eventually } from '../support/bundle.ts';
import { FakeAuthority } from '../support/fake-authority.ts';
import { dial, emptied, plainServer, proxied, shown } from './support.ts';

const gateway = 'spiffe://example.org/gateway';

async function wayIn(settings: Record<string, unknown>, serve?: (socket: Socket) => void) {
  const authority = new FakeAuthority();
  const [server, client] = [await service(authority, 'web', [gateway]), await service(authority, 'gateway')];
  const plain = await plainServer(serve);
  return { client, plain, ...(await proxied(server, { to: `127.0.0.1:${plain.port}`, ...settings })) };
}

/** One answered call; resolves to how it ended. */
async function call(port: number, options: ReturnType<typeof shown>): Promise<string> {
  const caller = dial(port, options);
  caller.socket.end('hello');
  const how = await caller.over;
  return `${caller.text()} ${how}`;
}

/** Connections that never say a word, from an address of this machine. */
async function mute(port: number, count: number, localAddress: string): Promise<Socket[]> {
  const sockets = Array.from({ length: count }, () => connect({ host: '127.0.0.1', port, localAddress }));
  onTestFinished(() => sockets.forEach((socket) => void socket.destroy()));
  for (const socket of sockets) socket.on('error', () => undefined);
  await Promise.all(sockets.map((socket) => new Promise((resolve) => void socket.once('connect', resolve))));
  return sockets;
}

test('who opens handshakes and never ends one keeps nobody out: not from one address, not from many', async () => {
  const limits = { handshakes: 20, handshakesPerSource: 10, handshake: '60s' };
  const { client, port, notices, proxy } = await wayIn({ limits });
  const flood = await mute(port, 100, '127.0.0.2');
  expect(await call(port, shown(client))).toBe('hello end');
  expect(
    await eventually(() => (flood.filter((socket) => !socket.closed).length <= 10 ? true : undefined)),
  ).toBe(true);
  for (let at = 3; at < 30; at += 1) await mute(port, 5, `127.0.0.${at}`);
  for (let at = 0; at < 20; at += 1) expect(await call(port, shown(client))).toBe('hello end');
  expect(notices.filter((line) => line.includes('unfinished')).length).toBeLessThan(4);
  expect(proxy.counts.overLimit).toBeGreaterThan(200);
});

test('who leaves before the handshake is done keeps no place', async () => {
  const { port, proxy } = await wayIn({ limits: { handshakesPerSource: 10 } });
  for (let at = 0; at < 5; at += 1) {
    for (const socket of await mute(port, 10, '127.0.0.1')) socket.end();
    expect(await eventually(() => (proxy.counts.handshakesFailed === (at + 1) * 10 ? true : undefined))).toBe(
      true,
    );
  }
  expect(proxy.counts.overLimit).toBe(0);
});

test('a handshake that takes too long is cut', async () => {
  const { port } = await wayIn({ limits: { handshake: '1s' } });
  const [socket] = await mute(port, 1, '127.0.0.1');
  socket?.resume();
  expect(await eventually(() => (socket?.closed ? true : undefined), 3000)).toBe(true);
});

test('past the most connections the next is refused, and let in when there is room again', async () => {
  const { client, port, notices, plain } = await wayIn({ limits: { connections: 2 } });
  const [one, two] = [dial(port, shown(client)), dial(port, shown(client))];
  await eventually(() => plain.taken[1]);
  expect(await call(port, shown(client))).toMatch(/ (end|ECONNRESET)$/);
  expect(plain.taken).toHaveLength(2);
  expect(notices.join()).toContain('there are 2 connections already');
  one.socket.end();
  two.socket.end();
  await Promise.all([one.over, two.over]);
  expect(await eventually(async () => undefined, 100)).toBeUndefined();
  expect(await call(port, shown(client))).toBe('hello end');
});

test('silence is cut where that is asked for; without, a connection stays', async () => {
  const asked = await wayIn({ limits: { idle: '1s' } });
  const silent = dial(asked.port, shown(asked.client));
  const stays = await wayIn({});
  const other = dial(stays.port, shown(stays.client));
  expect(await silent.over).toBe('ECONNRESET');
  expect(asked.proxy.counts.idle).toBe(1);
  expect(other.socket.closed).toBe(false);
});

test('who has ended and is never answered is cut', async () => {
  const { client, port } = await wayIn({ limits: { halfClosed: '1s' } }, (socket) => void socket.resume());
  const caller = dial(port, shown(client));
  caller.socket.end('and now?');
  expect(await caller.over).toBe('ECONNRESET');
});

test('who reads slowly has the service wait, and takes no memory', async () => {
  const chunk = Buffer.alloc(65_536, 'x');
  let sent = 0;
  const { client, port } = await wayIn({}, (socket) => {
    const more = () => {
      while (!socket.destroyed && socket.write(chunk)) sent += chunk.length;
    };
    socket.on('drain', more);
    more();
  });
  global.gc?.();
  const before = process.memoryUsage().rss;
  const readers = Array.from({ length: 20 }, () => connectTls({ host: '127.0.0.1', port, ...shown(client) }));
  onTestFinished(() => readers.forEach((reader) => void reader.destroy()));
  for (const reader of readers) {
    reader.on('error', () => undefined);
    reader.once('readable', () => undefined);
  }
  let last = -1;
  await eventually(async () => {
    const isStill = sent === last;
    last = sent;
    await new Promise((resolve) => void setTimeout(resolve, 300));
    return isStill && sent > 0 ? true : undefined;
  });
  expect(process.memoryUsage().rss - before).toBeLessThan(64 * 1024 * 1024);
  expect(sent).toBeLessThan(20 * 24 * 1024 * 1024);
});

test('ten thousand connections leave no descriptor behind', { timeout: 300_000 }, async () => {
  const { client, port, proxy } = await wayIn({});
  const { checkServerIdentity, ...pem } = shown(client);
  const options = { checkServerIdentity, secureContext: createSecureContext(pem) };
  const descriptors = () => readdirSync('/proc/self/fd').length;
  for (let at = 0; at < 50; at += 1) await call(port, options);
  await emptied(proxy);
  const before = descriptors();
  const worker = async (count: number): Promise<void> => {
    for (let at = 0; at < count; at += 1) {
      // Every way to end one: in order, in the middle, with what is not TLS, without a word.
      const way = at % 10;
      const caller =
        way < 2 ? connectTls({ host: '127.0.0.1', port, ...options }) : connect(port, '127.0.0.1');
      caller.on('error', () => undefined).resume();
      if (way === 0) caller.end('hello');
      else if (way === 1) caller.once('secureConnect', () => void caller.destroy());
      else if (way === 2) caller.end('GET / HTTP/1.1\r\n\r\n');
      else caller.once('connect', () => void caller.destroy());
      await new Promise((resolve) => void caller.once('close', resolve));
    }
  };
  await Promise.all(Array.from({ length: 20 }, () => worker(500)));
  expect(await emptied(proxy)).toBe(true);
  expect(await eventually(() => (descriptors() <= before + 5 ? true : undefined))).toBe(true);
});

test('a way out that is cut at any moment of its handshake does no harm', { timeout: 60_000 }, async () => {
  const authority = new FakeAuthority();
  const [client, server] = [await service(authority, 'gateway'), await service(authority, 'db')];
  const { cert, key, ca } = shown(server);
  const upstream = createTlsServer({ cert, key, ca, requestCert: true }, (socket) => {
    socket.on('error', () => undefined).resume();
  });
  upstream.on('tlsClientError', () => undefined);
  await new Promise<void>((resolve) => void upstream.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void upstream.close());
  const { port: to } = upstream.address() as { port: number };
  for (const expected of ['spiffe://example.org/db', 'spiffe://example.org/other']) {
    const { port, proxy } = await proxied(client, { to: `127.0.0.1:${to}`, expect: expected });
    const one = (afterMs: number) =>
      new Promise<void>((resolve) => {
        const socket = connect({ host: '127.0.0.1', port });
        socket.on('error', () => undefined).resume();
        socket.once('close', () => resolve());
        setTimeout(() => socket.resetAndDestroy(), afterMs);
      });
    for (let round = 0; round < 20; round += 1)
      await Promise.all(Array.from({ length: 20 }, (_, at) => one(at)));
    expect(await emptied(proxy)).toBe(true);
  }
});
