import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, statSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { listenForClients } from '../../src/signer/listener.ts';
import { Session } from '../../src/signer/session.ts';
import { FakeClock } from '../fakes/clock.ts';
import type { AppendItem } from '../../src/signer/port.ts';
import type { SupervisedSigner } from '../../src/signer/supervisor.ts';
import { temporaryFolder } from '../support/hsm.ts';
import { LiveLog, liveCertificate, liveRecord, type LiveSigner, liveSigner, startSigner } from './live.ts';

let live: LiveSigner;
let log: LiveLog;
let listening: ChildProcess;
const folder = temporaryFolder('sock');
const socket = join(folder, 'signer.sock');
const open: SupervisedSigner[] = [];

function listen(path = socket): ChildProcess {
  const args = [live.entry, 'signer', '--config', live.configFile, '--listen', path];
  // Its own environment is not set for SoftHSM: the configuration is enough.
  const child = spawn(process.execPath, args, {
    env: { PATH: process.env.PATH },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  child.stderr?.setEncoding('utf8').on('data', (text: string) => void said.push(text));
  return child;
}

const said: string[] = [];
const exitOf = (child: ChildProcess) =>
  new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)));

function client(): SupervisedSigner {
  const signer = startSigner(log, { signer: { connect: socket } });
  open.push(signer);
  return signer;
}

async function append(signer: SupervisedSigner, items: AppendItem[]) {
  const firstIndex = log.commit(items);
  const result = await signer.append({ firstIndex, items });
  log.checkpoint = result.checkpoint.note;
  return result;
}

beforeAll(async () => {
  live = await liveSigner();
  log = new LiveLog(live);
  listening = listen();
  const first = client();
  log.checkpoint = (await first.ready()).note;
  await first.close();
});

afterEach(async () => {
  for (const signer of open.splice(0)) await signer.close();
});

afterAll(() => void listening.kill('SIGKILL'));

describe('vouch signer --listen', () => {
  it('listens where its owner alone may connect (I8), and is found before it listens', () => {
    expect(statSync(socket).isSocket()).toBe(true);
    expect(statSync(socket).mode & 0o777).toBe(0o600);
  });

  it('serves one server after another from where the last one ended', async () => {
    for (let round = 0; round < 3; round += 1) {
      const signer = client();
      expect((await signer.ready()).treeSize).toBe(log.leaves.length);
      expect(signer.status().pid).toBe(listening.pid);
      const { signatures } = await append(signer, [liveCertificate(live), liveRecord()]);
      expect(Buffer.isBuffer(signatures[0])).toBe(true);
      await signer.close();
    }
  });

  it('refuses an older tree from the next server (I11)', async () => {
    const signer = client();
    await signer.ready();
    const saved = { note: log.checkpoint, size: log.leaves.length };
    await append(signer, [liveRecord()]);
    await signer.close();
    const newer = log.checkpoint;
    log.checkpoint = saved.note;
    const old = new LiveLog(live);
    old.commit(log.leaves.slice(0, saved.size).map((leaf) => ({ purpose: 'record', leaf })));
    old.checkpoint = saved.note;
    const rewound = startSigner(old, { signer: { connect: socket } });
    open.push(rewound);
    await expect(rewound.ready()).rejects.toMatchObject({ code: 'integrity-rewind' });
    log.checkpoint = newer;
  });

  it('turns a second server away while the first lives', async () => {
    const first = client();
    await first.ready();
    const second = client();
    await expect(second.ready()).rejects.toMatchObject({ code: 'config-in-use' });
    expect(Buffer.isBuffer((await append(first, [liveCertificate(live)])).signatures[0])).toBe(true);
    await first.close();
    await expect.poll(() => second.status().state, { timeout: 5000 }).toBe('usable');
  });

  it('cuts off whoever is turned away, whatever they send or do not send, and takes four at once', async () => {
    const path = join(folder, 'few.sock');
    const serve = (stream: Socket) =>
      new Session(
        stream,
        () => Promise.resolve(Buffer.alloc(0)),
        () => 0,
      );
    const server = await listenForClients({ path, groupAccess: false }, serve, new FakeClock());
    onTestFinished(() => void server.close());
    const served = connect(path);
    await once(served, 'connect');
    const half = Buffer.alloc(1024);
    half.writeUInt32BE(64_000_000);
    const others = Array.from({ length: 12 }, (_, at) => {
      const stream = connect(path).on('error', () => undefined);
      if (at % 2 === 0) stream.write(half);
      return new Promise((resolve) => stream.resume().once('close', resolve));
    });
    await Promise.race(others);
    expect(await promisify(server.getConnections.bind(server))()).toBeLessThanOrEqual(4);
    await Promise.all(others);
    expect(served.destroyed).toBe(false);
    served.destroy();
  });

  it('drops a client that speaks another protocol, and serves on', async () => {
    for (const junk of ['GET / HTTP/1.1\r\n\r\n', '\0\0\0\0', '\xff\xff\xff\xff', '']) {
      const stream = connect(socket);
      const closed = new Promise((resolve) => stream.once('close', resolve));
      stream.on('error', () => undefined);
      stream.end(Buffer.from(junk, 'latin1'));
      await closed;
    }
    const signer = client();
    expect((await signer.ready()).treeSize).toBe(log.leaves.length);
  });

  it('replaces a client that says nothing for five seconds', async () => {
    const silent = connect(socket);
    const closed = new Promise((resolve) => silent.once('close', resolve));
    await new Promise((resolve) => silent.once('connect', resolve));
    const signer = client();
    await expect(signer.ready()).rejects.toMatchObject({ code: 'config-in-use' });
    await expect.poll(() => signer.status().state, { timeout: 10_000 }).toBe('usable');
    await closed;
  });

  it('is not started twice on one socket', async () => {
    expect(await exitOf(listen())).toBe(78);
    expect(said.join('')).toMatch(/another signer listens/);
    const signer = client();
    await signer.ready();
  });

  it('refuses a path that is too long, or that is a file', async () => {
    expect(await exitOf(listen(join(folder, 'x'.repeat(120))))).toBe(78);
    expect(said.join('')).toMatch(/a socket's path holds 107 bytes/);
    const file = join(folder, 'file');
    writeFileSync(file, 'keep');
    expect(await exitOf(listen(file))).toBe(78);
    expect(existsSync(file)).toBe(true);
    mkdirSync(join(folder, 'folder'));
    expect(await exitOf(listen(join(folder, 'folder')))).toBe(78);
  });

  it('takes its socket away when it is told to end', async () => {
    const path = join(folder, 'other.sock');
    const signer = listen(path);
    await expect.poll(() => existsSync(path), { timeout: 10_000 }).toBe(true);
    const ended = exitOf(signer);
    signer.kill('SIGTERM');
    expect(await ended).toBe(0);
    expect(existsSync(path)).toBe(false);
  });

  it('is outlived by the server: killed and started again, the next call is served', async () => {
    const signer = client();
    await signer.ready();
    const dead = exitOf(listening);
    listening.kill('SIGKILL');
    await dead;
    const pending = append(signer, [liveCertificate(live)]);
    listening = listen();
    expect(Buffer.isBuffer((await pending).signatures[0])).toBe(true);
    expect(signer.status().restarts).toBeGreaterThan(0);
  });

  it('ends in order on SIGTERM', async () => {
    const signer = client();
    await signer.ready();
    await append(signer, [liveRecord()]);
    const ended = exitOf(listening);
    listening.kill('SIGTERM');
    expect(await ended).toBe(0);
    listening = listen();
    await expect.poll(() => signer.status().state, { timeout: 5000 }).toBe('usable');
  });
});
