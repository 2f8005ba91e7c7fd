import { type ChildProcess, execFile, execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { VouchError } from '../../src/core/errors.ts';
import { peerCredentials } from '../../src/http/peer-credentials.ts';

const isRoot = process.getuid?.() === 0;
/** nobody; without root no other uid can be taken. */
const otherUid = isRoot ? 65534 : (process.getuid?.() ?? -1);
const otherGid = isRoot ? 65533 : (process.getgid?.() ?? -1);

let directory: string;
let server: Server;
let path: string;

beforeAll(async () => {
  execFileSync('scripts/build-native');
  directory = mkdtempSync(join(tmpdir(), 'vouch-peer-'));
  chmodSync(directory, 0o755);
  path = join(directory, 'admin.sock');
  server = createServer({ pauseOnConnect: true });
  server.listen({ path, writableAll: true });
  await once(server, 'listening');
});

afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true });
});

interface Addon {
  peerCredentials(fd: unknown): unknown;
}

function loadAddon(): Addon {
  return createRequire(import.meta.url)('../../dist/native/linux.node') as Addon;
}

async function accepted(): Promise<Socket> {
  const [socket] = (await once(server, 'connection')) as [Socket];
  return socket;
}

/** A process of the other user that connects and waits for the end. Becomes it after exec: it may not enter the checkout. */
function otherUser(): ChildProcess {
  const drop = isRoot
    ? `process.setgroups([]); process.setgid(${otherGid}); process.setuid(${otherUid});`
    : '';
  return execFile(process.execPath, [
    '-e',
    `${drop} require('node:net').connect(process.argv[1]).resume()`,
    path,
  ]);
}

function refusal(socket: Socket): VouchError {
  try {
    peerCredentials(socket);
  } catch (error) {
    if (error instanceof VouchError) return error;
    throw error;
  }
  throw new Error('peerCredentials accepted it');
}

describe('peerCredentials', () => {
  it('tells this process by its own pid, uid and gid', async () => {
    const connection = accepted();
    const near = connect(path);
    const socket = await connection;
    expect(peerCredentials(socket)).toEqual({
      pid: process.pid,
      uid: process.getuid?.(),
      gid: process.getgid?.(),
    });
    near.destroy();
    socket.destroy();
  });

  it('tells a process of another user', async () => {
    const connection = accepted();
    const child = otherUser();
    const socket = await connection;
    expect(peerCredentials(socket)).toEqual({ pid: child.pid, uid: otherUid, gid: otherGid });
    socket.destroy();
    await once(child, 'exit');
  });

  it('still tells the user who connected after that process is gone', async () => {
    const connection = accepted();
    const child = otherUser();
    const socket = await connection;
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(peerCredentials(socket).uid).toBe(otherUid);
    socket.destroy();
  });

  it('refuses a TCP connection, where the kernel would answer uid -1', async () => {
    const tcp = createServer();
    tcp.listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    const connection = once(tcp, 'connection') as Promise<[Socket]>;
    const address = tcp.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const near = connect(address.port, '127.0.0.1');
    const [socket] = await connection;
    expect(refusal(socket).code).toBe('denied-operator');
    near.destroy();
    socket.destroy();
    tcp.close();
  });

  it('refuses a closed connection', async () => {
    const connection = accepted();
    const near = connect(path);
    const socket = await connection;
    socket.destroy();
    expect(refusal(socket).code).toBe('denied-operator');
    near.destroy();
  });

  it('opens nothing: 10,000 answers and 10,000 refusals leave the descriptors as they were', async () => {
    const connection = accepted();
    const near = connect(path);
    const socket = await connection;
    const addon = loadAddon();
    peerCredentials(socket);
    const before = readdirSync('/proc/self/fd').length;
    for (let call = 0; call < 10_000; call += 1) {
      peerCredentials(socket);
      expect(() => addon.peerCredentials(1_000_000)).toThrow('Bad file descriptor');
    }
    expect(readdirSync('/proc/self/fd').length).toBe(before);
    near.destroy();
    socket.destroy();
  });

  it.each([-1, 1.5, Number.NaN, 2 ** 31, Number.POSITIVE_INFINITY, '3', undefined, null, {}])(
    'refuses %s as a descriptor',
    (fd) => {
      const addon = loadAddon();
      expect(() => addon.peerCredentials(fd)).toThrow('takes a file descriptor');
    },
  );
});
