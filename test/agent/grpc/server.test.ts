import {
  chmodSync,
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import type { ClientHttp2Stream } from 'node:http2';
import net from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  frame,
  GrpcError,
  GrpcStatus,
  type GrpcServer,
  type Method,
  type Out,
  serveGrpc,
} from '../../../src/agent/grpc/server.ts';
import { connectionBounds } from '../../../src/agent/grpc/budget.ts';
import { socketFolderProblem } from '../../../src/agent/grpc/unix-socket.ts';
import { FakePeer } from '../../fakes/workload-peer.ts';
import { answerOf, http2Frame, preface, RawClient } from '../../support/raw-grpc.ts';

const hello = frame(Buffer.from('hello'));
let dir: string;
let path: string;
let server: GrpcServer;
let client: RawClient;
let notices: string[];
let problems: (string | undefined)[];
let peers: FakePeer[];
let outs: Out[];
let closed: number;

const methods = new Map<string, Method>([
  ['/T/Echo', { kind: 'unary', call: async (request) => request }],
  [
    '/T/Slow',
    { kind: 'unary', call: async (request) => new Promise((done) => setTimeout(done, 300, request)) },
  ],
  ['/T/Never', { kind: 'unary', call: () => new Promise(() => {}) }],
  [
    '/T/Refuse',
    { kind: 'unary', call: async () => Promise.reject(new GrpcError(GrpcStatus.permissionDenied, 'nö %')) },
  ],
  ['/T/Crash', { kind: 'unary', call: async () => Promise.reject(new Error('secret of the inside')) }],
  [
    '/T/Stream',
    {
      kind: 'stream',
      open: async (request, _call, out) => {
        outs.push(out);
        out.send(frame(request));
        return {
          closed: () => {
            closed++;
          },
        };
      },
    },
  ],
  [
    '/T/Bidi',
    {
      kind: 'bidi',
      open: (_call, out) => {
        outs.push(out);
        return {
          message: (bytes) => out.send(frame(bytes)),
          closed: () => {
            closed++;
          },
        };
      },
    },
  ],
]);

function serve(): Promise<GrpcServer> {
  return serveGrpc({
    socket: path,
    mode: 0o600,
    methods,
    peerOf: () => {
      const peer = new FakePeer();
      peers.push(peer);
      return peer;
    },
    notice: (line) => notices.push(line),
    lookEveryMs: 20,
    problemChanged: () => problems.push(server.problem),
  });
}

beforeEach(async () => {
  dir = mkdtempSync(join(tmpdir(), 'vouch-grpc-'));
  path = join(dir, 'agent.sock');
  notices = [];
  problems = [];
  peers = [];
  outs = [];
  closed = 0;
  server = await serve();
  client = new RawClient(path);
});

afterEach(async () => {
  client.close();
  await server.close(0);
  rmSync(dir, { recursive: true });
});

describe('a call', () => {
  test('is answered with headers, a message and a status', async () => {
    const answer = await client.call('/T/Echo', { body: hello });
    expect(answer).toMatchObject({ http: 200, status: 0, body: hello });
    expect(answer.headers['content-type']).toBe('application/grpc');
    expect(answer.trailers['grpc-status']).toBe('0');
  });

  test('that fails gets its status in headers alone, its message percent-encoded', async () => {
    const answer = await client.call('/T/Refuse');
    expect(answer).toMatchObject({ http: 200, status: 7, message: 'nö %' });
    expect(answer.headers['grpc-message']).toBe('n%C3%B6 %25');
    expect(answer.trailers).toEqual({});
  });

  test('that breaks says nothing of the inside', async () => {
    expect(await client.call('/T/Crash')).toMatchObject({ status: 13, message: 'internal error' });
    expect(notices.join()).toContain('secret of the inside');
  });

  test.each([
    ['an unknown method', '/T/None', {}, 12],
    ['no request message', '/T/Echo', { body: Buffer.alloc(0) }, 12],
    ['two request messages', '/T/Echo', { body: Buffer.concat([hello, hello]) }, 12],
    ['a compressed message', '/T/Echo', { body: Buffer.from([1, 0, 0, 0, 1, 0]) }, 12],
    ['a message cut short', '/T/Echo', { body: hello.subarray(0, 7) }, 13],
    ['a message over the bound', '/T/Echo', { body: Buffer.from([0, 0, 1, 0, 1]), isOpen: true }, 8],
    ['a malformed deadline', '/T/Echo', { headers: { 'grpc-timeout': '1x' } }, 3],
    ['a deadline that passes', '/T/Never', { headers: { 'grpc-timeout': '20m' } }, 4],
  ])('with %s is refused', async (_what, method, options, status) => {
    const answer = await client.call(method, options);
    expect(answer).toMatchObject({ http: 200, status, reset: 0 });
    expect(await client.call('/T/Echo', { body: hello })).toMatchObject({ status: 0 });
  });

  test('comes in pieces of a byte', async () => {
    const stream = client.open('/T/Echo');
    for (const byte of hello) stream.write(Buffer.of(byte));
    stream.end();
    expect(await answerOf(stream)).toMatchObject({ status: 0, body: hello });
  });

  test.each([
    ['application/grpc+proto', 200],
    ['application/grpc;charset=utf-8', 200],
    ['application/grpc-web', 415],
    ['application/json', 415],
    ['', 415],
  ])('of content type %s: HTTP %i', async (type, status) => {
    expect(await client.call('/T/Echo', { headers: { 'content-type': type } })).toMatchObject({
      http: status,
    });
  });

  test('by another verb: HTTP 405', async () => {
    expect(await client.call('/T/Echo', { headers: { ':method': 'PUT' } })).toMatchObject({ http: 405 });
  });
});

describe('a stream', () => {
  test('lives until its caller cancels it, and its end is told once', async () => {
    const stream = client.open('/T/Stream');
    stream.end(hello);
    stream.resume();
    await vi.waitUntil(() => outs.length === 1);
    expect(server.streams).toBe(1);
    stream.close(8);
    await vi.waitUntil(() => closed === 1);
    expect(server.streams).toBe(0);
  });

  test('ends with its connection, and so does the peer', async () => {
    const stream = client.open('/T/Stream');
    stream.end(hello);
    await vi.waitUntil(() => outs.length === 1);
    client.session.destroy();
    await vi.waitUntil(() => closed === 1 && server.connections === 0);
    expect(peers.map((peer) => peer.closed)).toEqual([true]);
  });

  test('ends with a status of its own', async () => {
    const stream = client.open('/T/Stream');
    stream.end(hello);
    await vi.waitUntil(() => outs.length === 1);
    outs[0]?.end(new GrpcError(GrpcStatus.permissionDenied, 'no'));
    expect(await answerOf(stream)).toMatchObject({ status: 7, message: 'no', body: hello });
  });

  test('both ways takes messages while it answers', async () => {
    const stream = client.open('/T/Bidi');
    stream.write(hello);
    const first = await new Promise((done) => stream.once('data', done));
    expect(first).toEqual(hello);
    stream.end(hello);
    expect(await answerOf(stream)).toMatchObject({ status: 0, body: hello });
    expect(closed).toBe(1);
  });

  test.each([
    ['their connection', () => client.session.destroy()],
    ['each of them', (streams: ClientHttp2Stream[]) => streams.forEach((stream) => stream.close(8))],
  ])('of many that say nothing may end with %s', async (_what, end) => {
    const streams = Array.from({ length: 600 }, () => client.open('/T/Bidi'));
    await vi.waitUntil(() => server.streams === 600);
    end(streams);
    await vi.waitUntil(() => closed === 600);
  });

  test('whose caller does not read is cut, at a bound', async () => {
    const deaf = new RawClient(path, { initialWindowSize: 0 });
    const stream = deaf.open('/T/Stream');
    stream.end(hello);
    await vi.waitUntil(() => outs.length === 1);
    const large = frame(Buffer.alloc(100_000));
    for (let sent = 0; sent < 30; sent++) outs[0]?.send(large);
    await vi.waitUntil(() => closed === 1);
    expect(notices.join()).toContain('does not read');
    deaf.close();
  });

  test('may carry one message above that bound', async () => {
    const large = frame(Buffer.alloc(3_000_000, 7));
    const stream = client.open('/T/Stream');
    stream.end(frame(Buffer.alloc(0)));
    const answer = answerOf(stream);
    await vi.waitUntil(() => outs.length === 1 && outs[0]?.unread === 0);
    outs[0]?.send(large);
    outs[0]?.end();
    expect((await answer).body.length).toBe(5 + large.length);
  });
});

describe('the end of the server', () => {
  test('ends streams with Unavailable, lets a call finish, says goodbye', async () => {
    const stream = client.open('/T/Stream');
    stream.end(hello);
    const slow = client.call('/T/Slow', { body: hello });
    const streamed = answerOf(stream);
    await vi.waitUntil(() => server.streams === 2 && outs.length === 1);
    const done = server.close(5000);
    expect(await streamed).toMatchObject({ status: 14 });
    expect(await slow).toMatchObject({ status: 0, body: hello });
    await done;
    await vi.waitUntil(() => client.isClosed);
    expect(client.goneAway).toBe(true);
  });

  test('does not wait longer than its grace', async () => {
    void client.call('/T/Never');
    await vi.waitUntil(() => server.streams === 1);
    await server.close(50);
    expect(server.connections).toBe(0);
  });
});

describe('the socket file', () => {
  test('has its mode from the start', () => {
    expect(statSync(path).mode & 0o777).toBe(0o600);
  });

  test('has the mode that it is to have, whatever the umask', async () => {
    const before = process.umask(0o077);
    const other = join(dir, 'other.sock');
    const open = await serveGrpc({
      socket: other,
      mode: 0o666,
      methods,
      peerOf: () => new FakePeer(),
      notice: () => {},
    });
    process.umask(before);
    expect(statSync(other).mode & 0o777).toBe(0o666);
    await open.close(0);
  });

  test('of one who answers is left alone', async () => {
    await expect(serve()).rejects.toMatchObject({ code: 'config-in-use' });
    expect(await client.call('/T/Echo')).toMatchObject({ status: 0 });
  });

  test('that is dead is replaced; what is no socket is not', async () => {
    await server.close(0);
    const abandoned = net.createServer().listen(path);
    await vi.waitUntil(() => abandoned.listening);
    // Closes the descriptor as a killed process does: without the unlink.
    (abandoned as unknown as { _handle: { close(): void } })._handle.close();
    writeFileSync(join(dir, 'plain'), '');
    server = await serve().catch(() => serve());
    path = join(dir, 'plain');
    await expect(serve()).rejects.toMatchObject({ code: 'config-invalid' });
    chmodSync(path, 0o600);
  });

  /** Of somebody who comes now. */
  async function answered(): Promise<boolean> {
    const late = new RawClient(path);
    const { status } = await late.call('/T/Echo', { body: hello });
    late.close();
    return status === 0;
  }

  test.each([
    ['that is removed', () => rmSync(path)],
    ['whose folder is removed', () => rmSync(dir, { recursive: true })],
    [
      'whose folder is swapped',
      () => {
        renameSync(dir, `${dir}.away`);
        mkdirSync(dir);
        onTestFinished(() => rmSync(`${dir}.away`, { recursive: true }));
      },
    ],
  ])('%s is made anew, and connections go on', async (_what, remove) => {
    await client.call('/T/Echo', { body: hello });
    remove();
    await vi.waitUntil(() => existsSync(path) && notices.length > 0);
    expect(notices).toEqual([`the socket ${path} was gone: it is made anew`]);
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await answered()).toBe(true);
    expect(await client.call('/T/Echo', { body: hello })).toMatchObject({ status: 0 });
    expect(server.problem).toBeUndefined();
  });

  test('of somebody else in its place stays, also at the end, and is complained of once', async () => {
    rmSync(path);
    const other = net.createServer().listen(path);
    onTestFinished(() => void other.close());
    await vi.waitUntil(() => server.problem);
    const { ino } = statSync(path);
    const looked = problems.length;
    await server.close(0);
    expect(statSync(path).ino).toBe(ino);
    expect(looked).toBe(1);
    expect(notices).toEqual([
      `workloads cannot connect: ${path} is not the agent's socket any more: remove it, and the agent makes it anew`,
    ]);
  });

  test('is made anew once what was in its place is gone', async () => {
    rmSync(path);
    writeFileSync(path, 'of somebody');
    await vi.waitUntil(() => server.problem);
    expect(readFileSync(path, 'utf8')).toBe('of somebody');
    rmSync(path);
    await vi.waitUntil(() => server.problem === undefined);
    expect(await answered()).toBe(true);
    expect(problems).toEqual([expect.stringContaining(path), undefined]);
  });

  test('that cannot be made anew is complained of once, until it can', async () => {
    renameSync(dir, `${dir}.away`);
    onTestFinished(() => rmSync(`${dir}.away`, { recursive: true }));
    writeFileSync(dir, '');
    await vi.waitUntil(() => server.problem);
    rmSync(dir);
    await vi.waitUntil(() => server.problem === undefined);
    expect(await answered()).toBe(true);
    expect(notices.filter((line) => line.startsWith('workloads cannot connect: '))).toHaveLength(1);
  });

  test('whose mode is changed is the same', async () => {
    chmodSync(path, 0o666);
    await new Promise((done) => setTimeout(done, 100));
    expect(notices).toEqual([]);
  });
});

// Only root gives folders away.
describe.runIf(process.getuid?.() === 0)('the folder of the socket', () => {
  const problem = (): string | undefined => socketFolderProblem(join(dir, 'deep/agent.sock'));
  beforeEach(() => mkdirSync(join(dir, 'deep'), { mode: 0o755 }));

  test('is good where nobody else writes, or the sticky bit keeps others off', () => {
    expect(problem()).toBeUndefined();
    chmodSync(dir, 0o1777);
    expect(problem()).toBeUndefined();
  });

  test.each([
    ['itself', 'deep', 0o777],
    ['itself, for a group,', 'deep', 0o775],
    ['one above it', '.', 0o777],
  ])('is complained of where others write to %s', (_which, name, mode) => {
    const folder = join(dir, name);
    chownSync(folder, -1, 12_345);
    chmodSync(folder, mode);
    expect(problem()).toContain(`${folder} is writable for others (mode ${mode.toString(8)})`);
  });

  test('is complained of where it is another user’s', () => {
    chownSync(join(dir, 'deep'), 12_345, -1);
    expect(problem()).toMatch(/deep belongs to uid 12345: .* mode 755, or name another socket/);
  });

  test('is complained of where anybody may make a socket in it before the agent does', () => {
    chmodSync(join(dir, 'deep'), 0o1777);
    expect(problem()).toContain('deep is writable for others (mode 1777)');
  });

  test('is complained of where a link on the way to it is in the hands of others', () => {
    mkdirSync(join(dir, 'open'));
    const link = join(dir, 'open/link');
    symlinkSync(join(dir, 'deep'), link);
    const ofLink = () => socketFolderProblem(join(link, 'agent.sock'));
    expect(ofLink()).toBeUndefined();
    chmodSync(join(dir, 'open'), 0o777);
    expect(ofLink()).toContain('open is writable for others (mode 777)');
    chmodSync(join(dir, 'open'), 0o1777);
    expect(ofLink()).toBeUndefined();
    lchownSync(link, 12_345, 12_345);
    expect(ofLink()).toContain('link belongs to uid 12345');
  });

  test('is said at the start', async () => {
    chmodSync(join(dir, 'deep'), 0o777);
    path = join(dir, 'deep/agent.sock');
    const open = await serve();
    expect(notices).toEqual([expect.stringContaining('is writable for others (mode 777)')]);
    await open.close(0);
  });
});

describe('a stranger', () => {
  function strangerSends(bytes: Buffer): Promise<void> {
    const socket = net.connect(path, () => socket.write(Buffer.concat([preface, bytes])));
    socket.on('error', () => {});
    socket.resume();
    return new Promise((resolve) => socket.once('close', () => resolve()));
  }

  test.each([
    ['PING', () => http2Frame(6, 0, 0, Buffer.alloc(8))],
    ['SETTINGS', () => http2Frame(4, 0, 0, Buffer.alloc(0))],
  ])('who floods with %s is cut', async (_what, one) => {
    await strangerSends(Buffer.concat(Array.from({ length: 500 }, one)));
    expect(notices.join()).toContain('control frames');
    expect(await client.call('/T/Echo')).toMatchObject({ status: 0 });
  });

  test('who opens and resets streams again and again is cut', async () => {
    const attacker = new RawClient(path);
    for (let round = 0; round < 100 && !attacker.isClosed; round++) {
      for (let one = 0; one < 100 && !attacker.isClosed; one++) attacker.open('/T/Never').close(8);
      await new Promise((done) => setImmediate(done));
    }
    await vi.waitUntil(() => attacker.isClosed, { timeout: 10_000 });
  });

  test.each([
    ['many headers', Array.from({ length: 200 }, (_, at) => [`x-${at}`, 'a'] as const)],
    ['large headers', [['x-large', 'a'.repeat(100_000)] as const]],
  ])('who sends %s gets no answer out of them', async (_what, headers) => {
    const attacker = new RawClient(path);
    const answer = await attacker
      .call('/T/Echo', { headers: Object.fromEntries(headers), body: hello })
      .catch(() => undefined);
    expect(answer?.body.length ?? 0).toBe(0);
    expect(answer?.status).not.toBe(0);
    attacker.close();
    expect(await client.call('/T/Echo', { body: hello })).toMatchObject({ status: 0 });
  });

  test('who speaks no HTTP/2 is cut', async () => {
    const socket = net.connect(path, () => socket.write('GET / HTTP/1.1\r\n\r\n'));
    socket.on('error', () => {});
    socket.resume();
    await new Promise((done) => socket.once('close', done));
    expect(await client.call('/T/Echo')).toMatchObject({ status: 0 });
  });

  test('who sends many requests by halves is refused past a bound', async () => {
    const half = Buffer.concat([Buffer.from([0, 0, 0, 0xff, 0xff]), Buffer.alloc(60_000)]);
    const answers = Array.from({ length: 120 }, () => client.call('/T/Echo', { body: half, isOpen: true }));
    expect(await Promise.race(answers)).toMatchObject({ status: 8, message: 'too many incomplete requests' });
  });

  test('who is not known is refused, and said so no more than a bound', async () => {
    peers.length = 0;
    const other = join(dir, 'other.sock');
    const closedServer = await serveGrpc({
      socket: other,
      mode: 0o666,
      methods,
      peerOf: () => {
        throw new Error('who is that?');
      },
      notice: (line) => notices.push(line),
    });
    for (let one = 0; one < 50; one++) {
      const socket = net.connect(other);
      socket.on('error', () => {});
      socket.resume();
      await new Promise((done) => socket.once('close', done));
    }
    expect(notices.length).toBe(20);
    expect(closedServer.connections).toBe(0);
    await closedServer.close(0);
  });

  describe('among other users', () => {
    let uid: number;
    let shared: GrpcServer;
    let other: string;

    beforeEach(async () => {
      uid = 7;
      other = join(dir, 'other.sock');
      shared = await serveGrpc({
        socket: other,
        mode: 0o666,
        methods,
        peerOf: () => new FakePeer({ uid }),
        notice: (line) => notices.push(line),
      });
    });
    afterEach(() => shared.close(0));

    async function othersAreServed(): Promise<void> {
      uid = 8;
      const another = new RawClient(other);
      expect(await another.call('/T/Echo', { body: hello })).toMatchObject({ status: 0 });
      another.close();
    }

    test('who opens connections without end gets no more than a bound', async () => {
      const sockets: net.Socket[] = [];
      const refused = new Promise<void>((resolve) => {
        const more = (): void => {
          const socket = net.connect(other, more);
          socket.on('error', () => {});
          socket.once('close', () => resolve());
          socket.resume();
          sockets.push(socket);
        };
        more();
      });
      await refused;
      expect(shared.connections).toBe(2500);
      expect(notices.join()).toContain('uid 7 has 2500 connections');
      await othersAreServed();
      for (const socket of sockets) socket.destroy();
      await vi.waitUntil(() => shared.connections === 0, { timeout: 10_000 });
    });

    test('there are fewer where the process may open few files', () => {
      expect(connectionBounds(1_024)).toEqual({ all: 409, ofUser: 137 });
      expect(connectionBounds(1_048_576)).toEqual({ all: 10_000, ofUser: 2_500 });
    });

    test('who connects again and again is refused', async () => {
      const isRefused = () => notices.join().includes('uid 7 connects again and again');
      for (let one = 0; one < 10_000 && !isRefused(); one += 1) {
        const socket = net.connect(other);
        socket.on('error', () => {});
        socket.once('connect', () => socket.destroy());
        await new Promise((done) => socket.once('close', done));
      }
      expect(isRefused()).toBe(true);
      await othersAreServed();
    });

    test('who opens streams without end and says nothing gets no more than a bound', async () => {
      const attackers = Array.from({ length: 7 }, () => new RawClient(other));
      let refused = 0;
      for (const attacker of attackers)
        for (let one = 0; one < 1_200; one += 1)
          attacker.open('/T/Bidi').once('close', () => {
            refused += 1;
          });
      await vi.waitUntil(() => refused > 0, { timeout: 30_000 });
      expect(shared.streams).toBeLessThanOrEqual(7_500);
      await othersAreServed();
      for (const attacker of attackers) attacker.close();
      await vi.waitUntil(() => shared.streams === 0, { timeout: 10_000 });
    });

    test('who calls again and again is cut', async () => {
      const attacker = new RawClient(other);
      for (let round = 0; round < 300 && !attacker.isClosed; round += 1)
        await Promise.all(Array.from({ length: 100 }, () => attacker.call('/T/None').catch(() => undefined)));
      expect(attacker.isClosed).toBe(true);
      expect(notices.join()).toContain('calls again and again');
      await othersAreServed();
    });
  });
});
