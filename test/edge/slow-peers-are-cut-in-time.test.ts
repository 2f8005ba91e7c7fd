import { once } from 'node:events';
import net from 'node:net';
import { beforeAll, expect, it } from 'vitest';
import { listenHttp } from '../../src/http/listeners.ts';
import { type Authority, bootAuthority } from '../support/daemon.ts';
import { dial, enroll } from './client.ts';
import { limitMs } from '../support/limits.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

/** Seconds until the server ends the connection, while `drip` goes out each half second. */
async function secondsUntilCut(socket: net.Socket, drip: string): Promise<number> {
  const started = performance.now();
  socket.on('error', () => undefined);
  socket.resume();
  const timer = setInterval(() => socket.writable && socket.write(drip), 500);
  // Not `once`, which rejects on the error that comes before.
  await new Promise((done) => socket.once('close', done));
  clearInterval(timer);
  return (performance.now() - started) / 1000;
}

async function plain(url: string): Promise<net.Socket> {
  const { hostname, port } = new URL(url);
  const socket = net.connect(Number(port), hostname);
  await once(socket, 'connect');
  return socket;
}

/** The first bytes of an honest ClientHello: a record that announces more than comes. */
const halfHello = Buffer.from('16030100c8010000c40303', 'hex');

it('headers, bodies and handshakes that never end are cut; honest peers are served meanwhile', async () => {
  const { enrollmentUrl, publicationUrl, operationsUrl } = authority.server.ready;
  const begin = async (socket: Promise<net.Socket>, text: string | Buffer) => {
    (await socket).write(text);
    return socket;
  };
  const post = 'POST /v1/enroll HTTP/1.1\r\nhost: vouch\r\ncontent-type: application/json\r\n';
  const attackers: [string, Promise<net.Socket>, string, number][] = [
    ['slow headers', begin(dial(enrollmentUrl), 'POST /v1/enroll HTTP/1.1\r\n'), 'x-a: b\r\n', 5],
    ['slow body', begin(dial(enrollmentUrl), `${post}content-length: 1000\r\n\r\n{`), ' ', 10],
    [
      'slow chunks',
      begin(dial(enrollmentUrl), `${post}transfer-encoding: chunked\r\n\r\n`),
      '1\r\n \r\n',
      10,
    ],
    ['half a handshake', begin(plain(enrollmentUrl), halfHello), '', 5],
    ['a handshake that never begins', plain(enrollmentUrl), '', 5],
    ['a connection after its handshake', dial(enrollmentUrl), '', 5],
    [
      'slow headers at the publication',
      begin(plain(publicationUrl), 'GET /bundle.json HTTP/1.1\r\n'),
      'x-a: b\r\n',
      5,
    ],
    ['slow headers at operations', begin(plain(operationsUrl), 'GET /livez HTTP/1.1\r\n'), 'x-a: b\r\n', 5],
    ['silence at the publication', plain(publicationUrl), '', 5],
  ];
  const cuts = attackers.map(async ([name, socket, drip, limit]) => {
    const seconds = await secondsUntilCut(await socket, drip);
    // Node looks once a second; the rest is the machine's.
    return [name, seconds < limit + 3 ? 'cut in time' : `cut after ${seconds} s`];
  });
  const more = await Promise.all(
    Array.from({ length: 200 }, () => begin(dial(enrollmentUrl), 'POST /v1/enroll HTTP/1.1\r\nx: ')),
  );

  const { path } = await authority.join('honest');
  const answer = await enroll(enrollmentUrl, path);
  expect(answer.status).toBe(200);
  expect(answer.ms).toBeLessThan(limitMs(2000));
  expect((await fetch(`${publicationUrl}/bundle.json`)).status).toBe(200);

  expect(await Promise.all(cuts)).toEqual(attackers.map(([name]) => [name, 'cut in time']));
  await Promise.all(more.filter((socket) => !socket.destroyed).map((socket) => once(socket, 'close')));
  expect(authority.server.code).toBeUndefined();
}, 40_000);

it('whose answer is not read is cut, too', async () => {
  const { promise: cut, resolve } = Promise.withResolvers<boolean>();
  const large = Buffer.alloc(64 * 1024 * 1024);
  const listener = await listenHttp(
    (_request, response) => {
      response.once('close', () => resolve(!response.writableFinished));
      response.end(large);
    },
    { host: '127.0.0.1', port: 0 },
  );
  const reader = net.connect(listener.port ?? 0, '127.0.0.1');
  reader.on('error', () => undefined);
  reader.pause().write('GET / HTTP/1.1\r\nhost: vouch\r\n\r\n');
  expect(await cut).toBe(true);
  reader.destroy();
  await listener.close(0);
}, 40_000);

it('headers too large, and too many of them, are cut', async () => {
  for (const headers of [`x: ${'a'.repeat(20_000)}\r\n`, 'x: y\r\n'.repeat(5000)]) {
    const socket = await dial(authority.server.ready.enrollmentUrl);
    socket.resume();
    socket.write(`GET /v1/bundle HTTP/1.1\r\nhost: vouch\r\n${headers}\r\n`);
    await once(socket, 'close');
  }
});

it.each([
  ['two lengths', 'content-length: 2\r\ncontent-length: 3\r\n\r\n{}'],
  ['a length beside chunks', 'content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n'],
  ['a negative length', 'content-length: -1\r\n\r\n'],
  ['a folded header', 'x: a\r\n b\r\n\r\n'],
  ['NUL in a header', 'x: a\0b\r\n\r\n'],
  ['a chunk of nonsense', 'transfer-encoding: chunked\r\n\r\nzz\r\n'],
])('what could be read in two ways is not read: %s', async (_name, rest) => {
  const socket = await dial(authority.server.ready.enrollmentUrl);
  const heard: Buffer[] = [];
  socket.on('data', (data: Buffer) => heard.push(data));
  socket.write(`POST /v1/challenge HTTP/1.1\r\nhost: vouch\r\ncontent-type: application/json\r\n${rest}`);
  await once(socket, 'close');
  expect(Buffer.concat(heard).toString()).not.toMatch(/^HTTP\/1\.1 200/);
});
