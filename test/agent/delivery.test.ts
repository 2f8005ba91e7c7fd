import { mkdirSync, readdirSync, readFileSync, readlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { deliverGeneration } from '../../src/agent/deliver/files.ts';
import { bundled, start } from './support/bundle.ts';
import { startAuthority, temporaryFolder, workload } from './support/harness.ts';

const deliver = (dir: string, keyPem: string): Promise<void> =>
  deliverGeneration(dir, {
    chain: [Buffer.from('leaf')],
    otherIssuers: [],
    keyPem,
    roots: [Buffer.from('root')],
    crls: [],
    proof: { index: 0, time: 0, context: '', treeSize: 1, path: [], checkpoint: '' },
    peers: { version: 1, allowedClients: [] },
  });

const generations = (dir: string): string[] => readdirSync(dir).filter((name) => /^\d+$/.test(name));

test('several that deliver into one folder at a time leave what one of them delivered, whole', async () => {
  const dir = temporaryFolder();
  await deliver(dir, 'first');
  for (let round = 0; round < 30; round += 1) {
    // Each begins while others write, make theirs current, or clean up.
    const writers = Array.from({ length: 4 }, async (_, n) => {
      for (let turns = 0; turns < n; turns += 1) await new Promise((resolve) => setImmediate(resolve));
      await deliver(dir, `key ${round} ${n}`);
    });
    await Promise.all(writers);
    expect(readFileSync(join(dir, 'current', 'svid.key'), 'utf8')).toMatch(new RegExp(`^key ${round} `));
    expect(readdirSync(join(dir, 'current'))).toHaveLength(7);
  }
  await deliver(dir, 'second last');
  await deliver(dir, 'last');
  expect(generations(dir)).toHaveLength(2);
});

test('the generation before stays for its readers; older ones and what a crash left an hour ago go', async () => {
  const dir = temporaryFolder();
  for (const key of ['one', 'two', 'three']) await deliver(dir, key);
  expect(generations(dir)).toEqual(['000002', '000003']);
  const names = ['.current-', '.pending-', '.generation-', 'agent.json.'];
  const leftOver = (tail: string) => names.map((name) => `${name}${tail}`).sort();
  const anHourAgo = Date.now() / 1000 - 3700;
  for (const name of [...leftOver('00000000000a'), ...leftOver('00000000000b')]) {
    if (name.startsWith('agent')) writeFileSync(join(dir, name), '');
    else mkdirSync(join(dir, name));
    if (name.endsWith('a')) utimesSync(join(dir, name), anHourAgo, anHourAgo);
  }
  await deliver(dir, 'four');
  expect(readdirSync(dir).sort()).toEqual([
    ...leftOver('00000000000b').slice(0, 3),
    '000003',
    '000004',
    'agent.json.00000000000b',
    'current',
  ]);
});

test('a disk that fails after the swap leaves what was made current', async () => {
  const agent = await bundled('src/agent.ts', 'vouch-agent.js');
  const { server } = await startAuthority();
  const one = workload(server);
  await one.enroll();
  const before = readlinkSync(join(one.dir, 'current'));
  // The folder itself is synced after the pending key, after agent.json, and after the swap.
  const failing = ['-f', '-qq', '-P', one.dir, '-e', 'trace=fsync', '-e', 'inject=fsync:error=EIO:when=3+'];
  const command = [process.execPath, agent, 'renew', '--dir', one.dir, '--timeout', '1'];
  const running = start('strace', [...failing, ...command], { UV_THREADPOOL_SIZE: '1' });
  expect(await running.exited).toBe(75);
  expect(running.stderr()).toMatch(/cannot be written \(EIO\)/);
  expect(readlinkSync(join(one.dir, 'current'))).not.toBe(before);
  expect(one.read('svid.pem')).toContain('BEGIN CERTIFICATE');
  expect(await one.renew()).toMatchObject({ code: 0 });
});

test.each([
  ['the pending key', 1],
  ['agent.json', 6],
  ['the generation', 10],
])('a disk that is full for a moment when %s is written fails no start', async (_what, when) => {
  const agent = await bundled('src/agent.ts', 'vouch-agent.js');
  const { server } = await startAuthority();
  const one = workload(server);
  const full = ['-f', '-qq', '-e', 'trace=fsync', '-e', `inject=fsync:error=ENOSPC:when=${when}`];
  const command = [process.execPath, agent, 'enroll', '--join-file', one.joinFile, '--out', one.dir];
  const running = start('strace', [...full, ...command], { UV_THREADPOOL_SIZE: '1' });
  expect(await running.exited).toBe(0);
  expect(running.stderr()).toMatch(/cannot be written \(ENOSPC\).*trying again/);
  expect(server.connections, 'one to learn the root, one to ask').toBe(2);
  expect(await one.renew()).toMatchObject({ code: 0 });
});
