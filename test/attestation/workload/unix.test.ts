import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  copyFileSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createAttest } from '../../../src/attestation/workload/attest.ts';
import { type WorkloadPeer, workloadPeer } from '../../../src/attestation/workload/peer.ts';
import { createUnixAttestor } from '../../../src/attestation/workload/unix/attestor.ts';
import { createHashes } from '../../../src/attestation/workload/unix/program.ts';
import { systemClock } from '../../../src/core/clock.ts';
import { type UnixClient, UnixListener } from '../../support/unix-client.ts';

const isRoot = process.getuid?.() === 0;
const listener = new UnixListener();
const ending: { end(): Promise<void> | void }[] = [];
let folder: string;
/** The interpreter itself, not what finds it. */
let python: string;

beforeAll(async () => {
  execFileSync('scripts/build-native');
  await listener.listen();
  folder = mkdtempSync(join(tmpdir(), 'vouch-w-'));
  chmodSync(folder, 0o755);
  const script = 'import os; print(os.readlink("/proc/self/exe"))';
  python = execFileSync('python3', ['-c', script], { encoding: 'utf8' }).trim();
});
afterEach(async () => {
  for (const one of ending.splice(0)) await one.end();
});
afterAll(async () => {
  await listener.close();
  rmSync(folder, { recursive: true });
});

async function connected(
  options?: Parameters<UnixListener['connected']>[0],
): Promise<{ client: UnixClient; peer: WorkloadPeer }> {
  const { client, socket } = await listener.connected(options);
  const peer = workloadPeer(socket);
  ending.push(client, { end: () => peer.close() });
  return { client, peer };
}

function attestWith(entries: readonly string[][], options: Parameters<typeof createUnixAttestor>[0] = {}) {
  return createAttest([createUnixAttestor(options)], () => entries.map((selectors) => ({ selectors })));
}

function sha256(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

describe('users and groups', () => {
  it.runIf(isRoot)('are those that connected, by number and by the names of the host', async () => {
    const passwd = join(folder, 'passwd');
    const group = join(folder, 'group');
    writeFileSync(
      passwd,
      'root:x:0:0::/:/bin/sh\nweb:x:4242:4243::/:\nalias:x:4242:1::/:\nbad:x:42x:\n:x:4242:\n',
    );
    writeFileSync(group, 'www:x:4243:\ntls:x:4244:web\n');
    const attest = attestWith([], { passwd, group });
    const { peer } = await connected({ uid: 4242, gid: 4243, groups: [4244, 4245] });
    const seen = [
      'unix:uid:4242',
      'unix:user:web',
      'unix:gid:4243',
      'unix:group:www',
      'unix:supplementary_gid:4244',
      'unix:supplementary_gid:4245',
      'unix:supplementary_group:tls',
    ];
    expect([...(await attest(peer))].sort()).toEqual(seen.sort());

    writeFileSync(`${passwd}.new`, 'other:x:4242:1::/:\n');
    renameSync(`${passwd}.new`, passwd);
    expect(await attest(peer)).toContain('unix:user:other');
    rmSync(passwd);
    const nameless = await attest(peer);
    expect(nameless).toContain('unix:uid:4242');
    expect([...nameless].join()).not.toContain('unix:user:');
    writeFileSync(passwd, '');
  });
});

describe('the program', () => {
  it('is looked at only for an entry of which all else was seen', async () => {
    const { peer } = await connected();
    const uid = `unix:uid:${process.getuid?.()}`;
    const types = async (...entries: string[][]) =>
      [...(await attestWith(entries)(peer))].map((one) => one.split(':')[1]);
    expect(await types()).not.toContain('path');
    expect(await types([uid])).not.toContain('path');
    expect(await types(['unix:uid:4242', 'unix:path:/x', 'unix:sha256:00'])).not.toContain('sha256');
    expect(await types([uid, 'unix:path:/x'])).toContain('path');
    expect(await types([uid, 'unix:path:/x'])).not.toContain('sha256');
    expect(await types(['unix:sha256:00'])).toContain('sha256');
  });

  it('has a path and a hash', async () => {
    const { peer } = await connected();
    const seen = await attestWith([['unix:path:/x', 'unix:sha256:00']])(peer);
    expect(seen).toContain(`unix:path:${python}`);
    expect(seen).toContain(`unix:sha256:${sha256(python)}`);
  });

  it('has no path once it is deleted or replaced, and keeps the hash of what runs', async () => {
    const program = join(folder, 'program');
    copyFileSync(python, program);
    const { client, peer } = await connected({ program });
    const attest = attestWith([['unix:path:/x', 'unix:sha256:00']]);
    expect(await attest(peer)).toContain(`unix:path:${program}`);
    const hash = sha256(program);
    writeFileSync(`${program}.new`, 'another');
    renameSync(`${program}.new`, program);
    expect(readlinkSync(`/proc/${client.pid}/exe`)).toBe(`${program} (deleted)`);
    writeFileSync(`${program} (deleted)`, 'a file of that very name');
    const seen = [...(await attest(peer))].filter((one) => /path|sha256/.test(one));
    expect(seen).toEqual([`unix:sha256:${hash}`]);
  });

  it.runIf(isRoot).each([
    ['of a mount of its own has not the path that it shows there', '--mount', 1],
    [
      'of a user namespace of its own has neither: it may name any program',
      '--user --map-root-user --mount',
      0,
    ],
  ])('%s', async (_name, namespaces, hashes) => {
    const victim = join(folder, 'victim');
    writeFileSync(victim, 'the program that the entry means', { mode: 0o755 });
    const wrapper = join(folder, 'wrapper');
    const script = `mount --bind ${python} ${victim} && exec ${victim} "$@"`;
    writeFileSync(wrapper, `#!/bin/sh\nexec unshare ${namespaces} sh -c '${script}' - "$@"\n`);
    chmodSync(wrapper, 0o755);
    const { client, peer } = await connected({ program: wrapper });
    expect(readlinkSync(`/proc/${client.pid}/exe`)).toBe(victim);
    const seen = [...(await attestWith([['unix:path:/x', 'unix:sha256:00']])(peer))];
    expect(seen).toContain(`unix:uid:${process.getuid?.()}`);
    expect(seen.filter((one) => one.startsWith('unix:path:'))).toEqual([]);
    expect(seen.filter((one) => one.startsWith('unix:sha256:'))).toHaveLength(hashes);
  });
});

describe('the hash of a program', () => {
  const own = ({ pid }: { pid: number }) => ({ pid, uid: 0 });
  /** Long ago by `clock`, so that it is kept. */
  const later = { now: () => Date.now() + 60_000, monotonicMs: () => 0 };

  it.each([
    ['read once while the file stays as it is', later, 1],
    ['read each time while it could change again within the grain of its times', systemClock, 3],
  ])('is %s', async (_name, clock, times) => {
    const program = join(folder, `read-${times}`);
    copyFileSync(python, program);
    const { client } = await connected({ program });
    const bytesRead = () => Number(/^rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'latin1'))?.[1]);
    const size = statSync(program).size;
    const hash = createHashes(clock);
    const before = bytesRead();
    const hashes = await Promise.all(Array.from({ length: 3 }, () => hash(own(client))));
    expect(Math.floor((bytesRead() - before) / size)).toBe(times);
    expect(new Set(hashes)).toEqual(new Set([sha256(program)]));
  });

  it('is that of the file now, though one of equal size and times stood there just before', async () => {
    const program = join(folder, 'restless');
    copyFileSync(python, program);
    const hash = createHashes();
    const { client } = await connected({ program });
    const { atime, mtime, size } = statSync(program);
    const first = await hash(own(client));
    await client.end();
    const bytes = readFileSync(program);
    bytes[size - 1] = (bytes[size - 1] ?? 0) ^ 1;
    writeFileSync(program, bytes);
    utimesSync(program, atime, mtime);
    const { client: second } = await connected({ program });
    expect(await hash(own(second))).not.toBe(first);
    expect(await hash(own(second))).toBe(sha256(program));
  });

  it('is none for a program that is too large, or a process that has ended', async () => {
    const { client } = await connected();
    expect(await createHashes(later, 1_000)(own(client))).toBeUndefined();
    await client.end();
    expect(await createHashes(later)(own(client))).toBeUndefined();
  });

  it('waits for nothing that another user brought, and is not missed where a process of his ended', async () => {
    const large = await Promise.all(
      ['a', 'b', 'c'].map(async (name) => {
        const program = join(folder, `large-${name}`);
        copyFileSync(python, program);
        spawnSync('truncate', ['--size=100M', program]);
        return (await connected({ program })).client;
      }),
    );
    const program = join(folder, 'small');
    copyFileSync(python, program);
    const [{ client: theirs }, { client: ours }] = [
      await connected({ program }),
      await connected({ program }),
    ];
    const hash = createHashes(later);
    const order: string[] = [];
    const ask = (uid: number, { pid }: UnixClient, name: string) =>
      hash({ pid, uid }).finally(() => order.push(name));
    const many = large.map((client) => ask(1, client, 'large'));
    const same = ask(1, theirs, 'the same program');
    const one = ask(2, ours, 'ours');
    await theirs.end();
    expect(await one).toBe(sha256(python));
    expect(order.filter((name) => name === 'large').length).toBeLessThan(3);
    await Promise.all([...many, same]);
  });

  it('keeps the event loop free', async () => {
    const program = join(folder, 'large');
    copyFileSync(python, program);
    spawnSync('truncate', ['--size=200M', program]);
    const { client } = await connected({ program });
    const longest = async () => {
      let last = performance.now();
      let pause = 0;
      const timer = setInterval(() => {
        pause = Math.max(pause, performance.now() - last);
        last = performance.now();
      }, 1);
      expect(await createHashes(later)(own(client))).toHaveLength(64);
      clearInterval(timer);
      return pause;
    };
    const started = performance.now();
    sha256(program);
    const inOneTurn = performance.now() - started;
    expect(Math.min(await longest(), await longest(), await longest())).toBeLessThan(inOneTurn / 4);
  });
});
