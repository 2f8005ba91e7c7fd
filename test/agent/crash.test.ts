import { createPrivateKey, X509Certificate } from 'node:crypto';
import { existsSync, lutimesSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { start, bundled } from './support/bundle.ts';
import { startAuthority, workload } from './support/harness.ts';

/** What any reader may rely on, at any moment: nothing at all, or one whole generation. */
function assertWhole(dir: string): string | undefined {
  if (!existsSync(join(dir, 'current'))) return undefined;
  const folder = realpathSync(join(dir, 'current'));
  const read = (file: string): string => readFileSync(join(folder, file), 'utf8');
  const leaf = new X509Certificate(read('svid.pem'));
  expect(leaf.checkPrivateKey(createPrivateKey(read('svid.key')))).toBe(true);
  expect(read('svid-combined.pem')).toBe(read('svid.key') + read('svid.pem'));
  for (const file of ['bundle.pem', 'crl.pem', 'proof.json', 'peers.json']) expect(read(file)).toMatch(/\n$/);
  JSON.parse(read('proof.json'));
  JSON.parse(readFileSync(join(dir, 'agent.json'), 'utf8'));
  return leaf.serialNumber;
}

test('kill -9 at any moment leaves nothing or one whole generation, and running it again ends well', async () => {
  const agent = await bundled('src/agent.ts', 'vouch-agent.js');
  const { authority, server } = await startAuthority();
  const one = workload(server);
  const enroll = ['enroll', '--join-file', one.joinFile, '--out', one.dir];
  const renew = ['renew', '--dir', one.dir];
  const kills = 24;
  let interrupted = 0;
  for (let round = 0; round < kills; round += 1) {
    const running = start(process.execPath, [
      agent,
      ...(existsSync(join(one.dir, 'current')) ? renew : enroll),
    ]);
    const timer = setTimeout(() => running.child.kill('SIGKILL'), 60 + (round * 140) / kills);
    if ((await running.exited) === 'SIGKILL') interrupted += 1;
    clearTimeout(timer);
    assertWhole(one.dir);
  }
  expect(interrupted).toBeGreaterThan(kills / 4);
  const last = await (existsSync(join(one.dir, 'current')) ? one.renew() : one.enroll());
  expect(last).toMatchObject({ code: 0 });
  expect(assertWhole(one.dir)).toBeDefined();
  // An hour later nothing is left of the crashes.
  const anHourAgo = Date.now() / 1000 - 3700;
  for (const name of readdirSync(one.dir))
    if (/^\.|^agent\.json\./.test(name)) lutimesSync(join(one.dir, name), anHourAgo, anHourAgo);
  expect(await one.renew()).toMatchObject({ code: 0 });
  expect(readdirSync(one.dir).filter((name) => /^\d+$/.test(name)).length).toBeLessThanOrEqual(2);
  expect(readdirSync(one.dir).filter((name) => name.startsWith('.') || name === 'pending')).toEqual([]);
  // One enrollment, however often it was asked: the token counted once.
  expect([...server.tokens.values()]).toHaveLength(1);
  expect(authority.leafHashes.length).toBeLessThanOrEqual(kills + 2);
});

test('a reader that polls across swaps never sees a half generation', async () => {
  const { server } = await startAuthority();
  const one = workload(server);
  await one.enroll();
  let stop = false;
  const serials = new Set<string | undefined>();
  const reading = (async () => {
    while (!stop) {
      serials.add(assertWhole(one.dir));
      await new Promise((resolve) => setImmediate(resolve));
    }
  })();
  for (let round = 0; round < 8; round += 1) expect((await one.renew()).code).toBe(0);
  stop = true;
  await reading;
  expect(serials.size).toBeGreaterThan(3);
  expect(serials.has(undefined)).toBe(false);
});
