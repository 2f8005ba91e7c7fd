import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { resolve } from 'node:path';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createAttest, type WorkloadAttestor } from '../../../src/attestation/workload/attest.ts';
import { holdByNumber, holdPeer } from '../../../src/attestation/workload/held-process.ts';
import { type WorkloadPeer, workloadPeer } from '../../../src/attestation/workload/peer.ts';
import { createUnixAttestor } from '../../../src/attestation/workload/unix/attestor.ts';
import { linux } from '../../../src/native/linux.ts';
import { canChoosePids, startWithPid, type UnixClient, UnixListener } from '../../support/unix-client.ts';

const isRoot = process.getuid?.() === 0;
const denied = expect.objectContaining({ code: 'denied-workload' });
const listener = new UnixListener();
const ending: { end(): Promise<void> | void }[] = [];

beforeAll(async () => {
  execFileSync('scripts/build-native');
  await listener.listen();
});
afterEach(async () => {
  for (const one of ending.splice(0)) await one.end();
});
afterAll(() => listener.close());

const holds = [
  ['by a pidfd', holdPeer],
  ['by its number', (fd: number, pid: number) => holdByNumber(fd, pid, 0)],
] as const;

type Hold = (typeof holds)[number][1];

async function connected(
  hold: Hold,
  options?: Parameters<UnixListener['connected']>[0],
): Promise<{ client: UnixClient; socket: Socket; peer: WorkloadPeer }> {
  const { client, socket } = await listener.connected(options);
  ending.push(client);
  const peer = workloadPeer(socket, hold);
  ending.push({ end: () => peer.close() });
  return { client, socket, peer };
}

async function attest(peer: WorkloadPeer, ...selectors: string[]): Promise<ReadonlySet<string>> {
  return createAttest([createUnixAttestor()], () => [{ selectors }])(peer);
}

function descriptors(): number {
  return readdirSync('/proc/self/fd').length;
}

async function isGone(pid: number): Promise<void> {
  const isThere = () => {
    try {
      return process.kill(pid, 0);
    } catch {
      return false;
    }
  };
  while (isThere()) await nextTurn();
}

it('has a kernel here that tells the peer by a pidfd, so that both ways are tested', async () => {
  const { socket } = await connected(holdPeer);
  const fd = (socket as unknown as { _handle: { fd: number } })._handle.fd;
  const pidfd = linux().peerPidfd(fd);
  expect(readlinkSync(`/proc/self/fd/${pidfd}`)).toMatch(/pidfd/);
  expect(readFileSync(`/proc/self/fdinfo/${pidfd}`, 'latin1')).toMatch(/^flags:\t0?2/m);
  ending.push({ end: () => import('node:fs').then(({ closeSync }) => closeSync(pidfd ?? -1)) });
});

describe.each(holds)('a peer held %s', (_name, hold) => {
  it('is the process that connected, until it ends', async () => {
    const { client, peer } = await connected(hold);
    expect(peer).toMatchObject({ pid: client.pid, uid: process.getuid?.(), gid: process.getgid?.() });
    expect(peer.isAlive()).toBe(true);
    await client.end();
    expect(peer.isAlive()).toBe(false);
    await expect(attest(peer)).rejects.toEqual(denied);
  });

  it('has ended when nobody has waited for it yet', async () => {
    const { client, peer } = await connected(hold);
    process.kill(client.pid, 'SIGKILL');
    // Not reaped: that takes a turn of the event loop, and this goes on without one.
    while (!readFileSync(`/proc/${client.pid}/stat`, 'latin1').includes(') Z '));
    expect(peer.isAlive()).toBe(false);
  });

  it('is nobody once closed, and may be closed twice', async () => {
    const { peer } = await connected(hold);
    const before = descriptors();
    peer.close();
    peer.close();
    expect(descriptors()).toBe(before - 1);
    expect(peer.isAlive()).toBe(false);
    await expect(attest(peer)).rejects.toEqual(denied);
  });

  it('is refused when it has ended before it is asked for, and nothing stays open', async () => {
    const { client, socket } = await listener.connected();
    await client.end();
    const before = descriptors();
    expect(() => workloadPeer(socket, hold)).toThrow(denied);
    expect(descriptors()).toBe(before);
  });

  it('counts as ended when it has handed its socket to another process, which lives on', async () => {
    const { client, socket, peer } = await connected(hold);
    await client.tell('leave');
    await isGone(client.pid);
    expect(socket.destroyed).toBe(false);
    expect(peer.isAlive()).toBe(false);
    await expect(attest(peer)).rejects.toEqual(denied);
    socket.destroy();
  });

  it('is another when it runs another program than the one that connected', async () => {
    const { client, peer } = await connected(hold);
    expect(await attest(peer)).toContain(`unix:uid:${process.getuid?.()}`);
    await client.exec('/usr/bin/yes');
    expect(readlinkSync(`/proc/${client.pid}/exe`)).not.toMatch(/python/);
    expect(peer.isAlive()).toBe(false);
    await expect(attest(peer)).rejects.toEqual(denied);
  });

  it.runIf(isRoot)('is refused when it became another user since it connected', async () => {
    const { client, peer } = await connected(hold);
    expect(await attest(peer)).toContain('unix:uid:0');
    await client.tell('setuid 65534');
    await expect(attest(peer)).rejects.toEqual(denied);
  });

  it.runIf(canChoosePids)(
    'does not become who has its number next, of the same program and user',
    async () => {
      const { client, peer } = await connected(hold);
      const program = readlinkSync(`/proc/${client.pid}/exe`);
      await client.end();
      const next = startWithPid(client.pid, program, ['-c', 'import time; time.sleep(60)']);
      ending.push({ end: () => void next.kill('SIGKILL') });
      while (readlinkSync(`/proc/${client.pid}/exe`) !== program) await nextTurn();
      expect(next.pid).toBe(peer.pid);
      expect(peer.isAlive()).toBe(false);
      await expect(attest(peer)).rejects.toEqual(denied);
    },
  );

  it.runIf(canChoosePids)('is refused when its number goes to another while it is looked at', async () => {
    const { client, peer } = await connected(hold);
    const program = readlinkSync(`/proc/${client.pid}/exe`);
    let isSwapped = false;
    const swap: WorkloadAttestor = {
      async look() {
        await client.end();
        const next = startWithPid(client.pid, program, ['-c', 'import time; time.sleep(60)']);
        ending.push({ end: () => void next.kill('SIGKILL') });
        isSwapped = true;
        return [];
      },
      dear: new Map(),
    };
    await expect(createAttest([swap, createUnixAttestor()], () => [])(peer)).rejects.toEqual(denied);
    expect(isSwapped).toBe(true);
  });

  it('gives back every descriptor: 10,000 peers, of which each is looked at and some refused', async () => {
    const { client, socket, peer } = await connected(hold);
    await attest(peer);
    const before = descriptors();
    const broken: WorkloadAttestor = { look: () => Promise.reject(new Error('broken')), dear: new Map() };
    for (let round = 0; round < 10_000; round += 1) {
      const one = workloadPeer(socket, hold);
      if (round % 100 === 0) await createAttest([broken], () => [])(one).catch(() => undefined);
      if (round % 100 === 1) await attest(one, 'unix:path:/x', 'unix:sha256:00');
      one.close();
    }
    expect(descriptors()).toBe(before);
    await client.end();
    const ended = descriptors();
    for (let round = 0; round < 1_000; round += 1) expect(() => workloadPeer(socket, hold)).toThrow(denied);
    expect(descriptors()).toBe(ended);
  });
});

it('held by its number is refused while it is younger than its connection can be', async () => {
  const startedMs = performance.now();
  const { client, socket } = await listener.connected();
  ending.push(client);
  const before = descriptors();
  const older = (ms: number) => (fd: number, pid: number) => holdByNumber(fd, pid, ms);
  const ageMs = () => performance.now() - startedMs;
  expect(() => workloadPeer(socket, older(ageMs() + 100))).toThrow(denied);
  expect(descriptors()).toBe(before);
  const enoughMs = ageMs();
  while (ageMs() < enoughMs + 1_000) await nextTurn();
  const peer = workloadPeer(socket, older(1_000));
  expect(peer.pid).toBe(client.pid);
  peer.close();
});

describe('refused', () => {
  it.runIf(isRoot)('is a peer of another pid namespace, which has no number in ours', async () => {
    const script = `
      import { workloadPeer } from ${JSON.stringify(resolve('src/attestation/workload/peer.ts'))};
      import { createServer } from 'node:net';
      const server = createServer((socket) => {
        try { workloadPeer(socket); console.log('accepted'); } catch (error) { console.log(error.code, error.message); }
        process.exit();
      }).listen({ path: process.argv[1], writableAll: true }, () => console.log('listening'));`;
    const path = `${listener.path}-ns`;
    const args = [
      '--pid',
      '--fork',
      '--kill-child',
      process.execPath,
      '--input-type=module',
      '-e',
      script,
      path,
    ];
    const inside = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    inside.stdout.on('data', (bytes: Buffer) => (said += bytes.toString()));
    while (!said.includes('listening')) await once(inside.stdout, 'data');
    const near = connect(path);
    await once(inside, 'close');
    expect(said).toContain('denied-workload');
    expect(said).toContain('another pid namespace');
    near.destroy();
  });

  it.runIf(isRoot)('is a user who has no number in the user namespace of the agent', async () => {
    const script = `
      import { workloadPeer } from ${JSON.stringify(resolve('src/attestation/workload/peer.ts'))};
      import { createServer } from 'node:net';
      const server = createServer((socket) => {
        try { console.log('uid', workloadPeer(socket).uid); } catch (error) { console.log(error.code, error.message); }
      }).listen({ path: process.argv[1], writableAll: true }, () => console.log('listening'));`;
    const path = `${listener.path}-user`;
    const args = ['--user', '--map-root-user', process.execPath, '--input-type=module', '-e', script, path];
    const inside = spawn('unshare', args, { stdio: ['ignore', 'pipe', 'inherit'] });
    ending.push({ end: () => void inside.kill('SIGKILL') });
    const { UnixClient } = await import('../../support/unix-client.ts');
    const said = (async function* () {
      for await (const bytes of inside.stdout) yield* String(bytes).trim().split('\n');
    })();
    expect((await said.next()).value).toBe('listening');
    const own = new UnixClient(path);
    ending.push(own);
    expect((await said.next()).value).toBe('uid 0');
    const stranger = new UnixClient(path, { uid: 4_242 });
    ending.push(stranger);
    expect((await said.next()).value).toMatch(/^denied-workload .*user namespace/);
  });

  it('is a TCP connection, and one that is closed', async () => {
    const tcp = createServer().listen(0, '127.0.0.1');
    await once(tcp, 'listening');
    const address = tcp.address();
    if (address === null || typeof address === 'string') throw new Error('no port');
    const connection = once(tcp, 'connection') as Promise<[Socket]>;
    const near = connect(address.port, '127.0.0.1');
    const [socket] = await connection;
    expect(() => workloadPeer(socket)).toThrow(denied);
    near.destroy();
    socket.destroy();
    expect(() => workloadPeer(socket)).toThrow(denied);
    tcp.close();
  });
});
