import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type CacheKeys, type Keyring, keyFile, keyringOrFile } from '../../src/agent/daemon/cache-keys.ts';
import { SealedCache } from '../../src/agent/daemon/sealed-cache.ts';
import { temporaryFolder } from '../agent/support/harness.ts';
import { type Host, startHost } from './support/daemon.ts';
import { limitMs } from '../support/limits.ts';

/** An agent that held `names` and has ended; what it left is in its folder. */
async function ended(host: Host, ...names: string[]) {
  for (const name of names) host.entries.create(name);
  const agent = host.start();
  const served = await agent.serves(...names);
  await agent.until(() => cacheIn(host).length > 0);
  await agent.end();
  return served;
}

function cacheIn({ dir }: Host): Buffer {
  try {
    return readFileSync(join(dir, 'cache.sealed'));
  } catch {
    return Buffer.alloc(0);
  }
}

describe('a restart while the server is away', () => {
  test('serves what the last one held within a second, keys and all', async () => {
    const host = await startHost();
    const before = await ended(host, 'web', 'db');
    const back = await host.server.goAway();
    const started = performance.now();
    const agent = host.start();
    const { svids, trust } = await agent.serves('web', 'db');
    expect(performance.now() - started).toBeLessThan(limitMs(1000));
    expect(svids).toEqual(before.svids);
    expect({ ...trust }).toEqual({ ...before.trust });
    expect(statSync(join(host.dir, 'cache.sealed')).mode & 0o777).toBe(0o600);
    expect(statSync(join(host.dir, 'cache.key')).mode & 0o777).toBe(0o600);
    // Back again, what became of the entries meanwhile counts, and nothing is asked for before its time.
    const calls = host.entries.calls.length;
    host.entries.create('new');
    await back();
    await agent.serves('web', 'db', 'new');
    expect(host.entries.calls.slice(calls).flat()).toHaveLength(1);
  });

  test('holds no key in the clear', async () => {
    const host = await startHost();
    const [svid] = (await ended(host, 'web')).svids;
    expect(cacheIn(host).includes(svid!.keyPkcs8)).toBe(false);
    expect(cacheIn(host).includes('spiffe://')).toBe(false);
  });

  test('with stale CRLs serves nothing under --crl require, and goes on with them under allow-stale', async () => {
    const host = await startHost();
    host.server.crlInstead = (keyId) => {
      const { authority } = host;
      const ca = [authority.issuer, authority.root].find((one) => one.keyId === keyId);
      return ca && { der: authority.crl(ca, { nextUpdateSeconds: Math.floor(Date.now() / 1000) + 2 }) };
    };
    await ended(host, 'web');
    await host.server.stop();
    await new Promise((done) => setTimeout(done, 2100));
    const strict = host.start();
    await strict.until(() => strict.notices.some((line) => line.includes('no identity yet')));
    expect(strict.now).toBeUndefined();
    await strict.end();
    await host.start({ crlPolicy: 'allow-stale' }).serves('web');
  });

  test.each([
    [
      'damaged',
      (sealed: Buffer) =>
        Buffer.concat([sealed.subarray(0, 100), Buffer.from([sealed[100]! ^ 1]), sealed.subarray(101)]),
    ],
    ['cut off', (sealed: Buffer) => sealed.subarray(0, 30)],
    ['empty', () => Buffer.alloc(0)],
  ])('with a %s cache says so in one line, and waits for the server', async (_how, bend) => {
    const host = await startHost();
    await ended(host, 'web');
    writeFileSync(join(host.dir, 'cache.sealed'), bend(cacheIn(host)));
    const back = await host.server.goAway();
    const agent = host.start();
    await agent.until(
      () => agent.notices.filter((line) => line.includes('cache.sealed is not used')).length === 1,
    );
    expect(agent.now).toBeUndefined();
    await back();
    await agent.serves('web');
  });

  test('an older cache, put back, opens nothing', async () => {
    const host = await startHost();
    await ended(host, 'web');
    const older = join(host.folder, 'older');
    copyFileSync(join(host.dir, 'cache.sealed'), older);
    const agent = host.start();
    host.entries.delete(host.entries.entries[0]!);
    host.entries.create('db');
    await agent.serves('db');
    await agent.until(() => !cacheIn(host).equals(readFileSync(older)));
    await agent.end();
    copyFileSync(older, join(host.dir, 'cache.sealed'));
    await host.server.goAway();
    const again = host.start();
    await again.until(() => again.notices.some((line) => line.includes('older than the last one')));
    expect(again.now).toBeUndefined();
  });

  test('another agent’s cache, with its key, opens nothing', async () => {
    const [one, other] = [await startHost(), await startHost()];
    await ended(one, 'web');
    await ended(other, 'db');
    for (const name of ['cache.sealed', 'cache.key'])
      copyFileSync(join(one.dir, name), join(other.dir, name));
    await other.server.goAway();
    const agent = other.start();
    await agent.until(() => agent.notices.some((line) => line.includes('of another agent')));
    expect(agent.now).toBeUndefined();
  });

  test('a bundle older than one seen since is not served', async () => {
    const host = await startHost();
    await ended(host, 'web');
    const state = join(host.dir, 'agent.json');
    const seen = JSON.parse(readFileSync(state, 'utf8')) as { seen: object };
    writeFileSync(state, JSON.stringify({ ...seen, seen: { ...seen.seen, bundle: 9 } }), { mode: 0o600 });
    await host.server.goAway();
    const agent = host.start();
    await agent.until(() => agent.notices.some((line) => line.includes('older than one seen before')));
    expect(agent.now).toBeUndefined();
  });

  test('what expired meanwhile is not served, and then nothing is', async () => {
    const host = await startHost();
    host.entries.lifetimeMs = 3000;
    await ended(host, 'web');
    await new Promise((done) => setTimeout(done, 3200));
    await host.server.goAway();
    const agent = host.start();
    await agent.until(() =>
      agent.notices.some((line) => line.includes('registration entries cannot be had')),
    );
    expect(agent.now).toBeUndefined();
  });
});

describe('the key of the cache', () => {
  const ring = (): Keyring & { kept: Map<string, Buffer> } => {
    const kept = new Map<string, Buffer>();
    return { kept, read: (name) => kept.get(name), write: (name, value) => void kept.set(name, value) };
  };
  const forbidden: Keyring = {
    read: () => {
      throw new Error('EPERM');
    },
    write: () => {
      throw new Error('EPERM');
    },
  };

  test('is in the keyring where there is one, and then in no file', async () => {
    const folder = temporaryFolder();
    const path = join(folder, 'key');
    const keyring = ring();
    // From a time when there was none.
    await new SealedCache(join(folder, 'cache'), keyFile(path), 'me').save(Buffer.from('one'));
    const cache = new SealedCache(join(folder, 'cache'), keyringOrFile(keyring, 'n', path), 'me');
    expect(cache.read()?.toString()).toBe('one');
    await cache.save(Buffer.from('two'));
    expect([...keyring.kept.keys()]).toEqual(['n']);
    expect(() => statSync(path)).toThrow('ENOENT');
    expect(cache.keysIn).toBe('keyring');
    const again = new SealedCache(join(folder, 'cache'), keyringOrFile(keyring, 'n', path), 'me');
    expect(again.read()?.toString()).toBe('two');
    // As after a reboot.
    const rebooted = new SealedCache(join(folder, 'cache'), keyringOrFile(ring(), 'n', path), 'me');
    expect(() => rebooted.read()).toThrow('its key is gone');
  });

  test('is in a file where the keyring is forbidden', async () => {
    const folder = temporaryFolder();
    const cache = new SealedCache(
      join(folder, 'cache'),
      keyringOrFile(forbidden, 'n', join(folder, 'key')),
      'me',
    );
    await cache.save(Buffer.from('one'));
    expect(cache.keysIn).toBe('file');
    const again = new SealedCache(
      join(folder, 'cache'),
      keyringOrFile(forbidden, 'n', join(folder, 'key')),
      'me',
    );
    expect(again.read()?.toString()).toBe('one');
  });

  test('a crash between key and file leaves the old file open', async () => {
    const folder = temporaryFolder();
    const keys = keyFile(join(folder, 'key'));
    await new SealedCache(join(folder, 'cache'), keys, 'me').save(Buffer.from('one'));
    const dying: CacheKeys = {
      ...keys,
      write: async (all) => {
        await keys.write(all);
        throw new Error('killed');
      },
    };
    const crashing = new SealedCache(join(folder, 'cache'), dying, 'me');
    expect(crashing.read()?.toString()).toBe('one');
    await expect(crashing.save(Buffer.from('two'))).rejects.toThrow('killed');
    expect(new SealedCache(join(folder, 'cache'), keys, 'me').read()?.toString()).toBe('one');
  });
});
