// I10 init creates, run refuses: missing, foreign, in-use and rewound state, an older or newer schema; a server shown a
// larger checkpoint of its own log stops issuing; every SQLite connection is asserted to be durable.
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createHash } from 'node:crypto';
import path from 'node:path';
import Database from 'better-sqlite3';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Serial } from '../../src/core/serial.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import { haltIfRewound } from '../../src/enrollment/consistency.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import type { RevocationTarget } from '../../src/revocation/targets.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import { Sequencer } from '../../src/sequencer/sequencer.ts';
import type { Store } from '../../src/store/port.ts';
import { assertDurable, connect, connectUnmarked } from '../../src/store/sqlite/connection.ts';
import { lockState } from '../../src/store/sqlite/lock.ts';
import { migrate } from '../../src/store/sqlite/migrations.ts';
import { createSqliteStore, openSqliteStore } from '../../src/store/sqlite/store.ts';
import { type Authority, bootAuthority, initAuthority, runVouch } from '../support/daemon.ts';
import { eventually, newFolder } from '../support/running.ts';
import {
  publicationUrl,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';
import { newToken } from './support/enrollee.ts';
import { Client, listeningServer, logKeyOf } from './support/listening-server.ts';
import { codeOf } from './support/refusal.ts';

const identity = {
  stateId: '00'.repeat(16),
  trustDomain,
  logOrigin: `${trustDomain}/vouch-log`,
  serialPrefix: 0x2a,
  shardCount: 16,
  createdAtMs: 1,
};

async function newState(): Promise<string> {
  const file = path.join(newFolder(), 'vouch.db');
  const store = createSqliteStore(file, identity);
  await store.close();
  return file;
}

async function opening(file: string): Promise<string> {
  return codeOf(async () => {
    await openSqliteStore(file).close();
  });
}

describe('a store that is opened', () => {
  test('is never made: not where the file is missing, nor the folder', async () => {
    const folder = newFolder();
    expect(await opening(path.join(folder, 'vouch.db'))).toBe('config-state');
    expect(await opening(path.join(folder, 'more/vouch.db'))).toBe('config-state');
    expect(readdirSync(folder)).toEqual([]);
  });

  test.each<[string, (file: string) => void]>([
    ['is empty', (file) => writeFileSync(file, '')],
    ['is text', (file) => writeFileSync(file, 'trustDomain: test.example\n'.repeat(400))],
    ["is another program's database", (file) => void new Database(file).exec('CREATE TABLE t (x)').close()],
    [
      'was begun and not finished',
      (file) => void connectUnmarkedNew(file).exec('CREATE TABLE leaves (x)').close(),
    ],
    ['is a folder', (file) => mkdirSync(file)],
  ])('is refused where it %s, and stays as it is', async (_name, make) => {
    const file = path.join(newFolder(), 'vouch.db');
    make(file);
    const before = statSync(file).isFile() ? readFileSync(file) : undefined;
    expect(await opening(file)).toMatch(/^(?:config-state|config-schema)$/);
    if (before) expect(readFileSync(file).equals(before)).toBe(true);
  });

  test.each([
    ['newer', "INSERT INTO schema_migrations VALUES (99, '0099_later.sql', '00', 1)"],
    ['older', 'DELETE FROM schema_migrations'],
    ['of another content', "UPDATE schema_migrations SET sha256 = '00'"],
  ])('is refused where its schema is %s', async (_name, sql) => {
    const file = await newState();
    const db = new Database(file);
    db.exec(sql);
    db.close();
    expect(await opening(file)).toBe('config-schema');
    expect(await opening(file)).toBe('config-schema');
  });

  test('is made once only: init does not take over what is there', async () => {
    const file = await newState();
    const before = readFileSync(file);
    expect(await codeOf(() => createSqliteStore(file, { ...identity, stateId: 'ff'.repeat(16) }))).toBe(
      'config-state',
    );
    expect(readFileSync(file).equals(before)).toBe(true);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });
});

describe('the lock', () => {
  test('[guard] is for one: the second is refused until the first lets go', async () => {
    const file = path.join(newFolder(), 'lock.db');
    const first = lockState(file);
    for (let round = 0; round < 3; round += 1)
      expect(await codeOf(() => lockState(file))).toBe('config-in-use');
    first.release();
    const second = lockState(file);
    expect(await codeOf(() => lockState(file))).toBe('config-in-use');
    second.release();
  });

  test('[guard] outlives garbage collection: nobody has to hold on to it', async () => {
    const file = path.join(newFolder(), 'lock.db');
    lockState(file);
    await churn();
    expect(await codeOf(() => lockState(file))).toBe('config-in-use');
  });

  test('keeps nobody from reading or backing up the state beside it', async () => {
    const file = await newState();
    const lock = lockState(path.join(path.dirname(file), 'lock.db'));
    const store = openSqliteStore(file);
    await store.backup(`${file}.copy`);
    expect(openSqliteStore(file, { readonly: true }).treeSize()).toBe(0);
    await store.close();
    lock.release();
  });
});

describe('synchronous=FULL', () => {
  test('is set and read back on every connection before it does anything', async () => {
    const seen = watchConnections();
    const file = await newState();
    const store = openSqliteStore(file);
    const leaf = recordLeaf('operator', 1, { verb: 'test' });
    await store.commitBatch([{ kind: 'operator', leaf }], { signatures: [], checkpointNote: undefined });
    await store.backup(`${file}.backup`);
    await openSqliteStore(file, { readonly: true }).close();
    await store.close();
    lockState(path.join(path.dirname(file), 'lock.db')).release();
    await migrate(file);
    seen.restore();
    expect(seen.connections.size).toBeGreaterThanOrEqual(6);
    for (const first of seen.connections.values()) expect(first).toBe('asserted');
  });

  test.each(['OFF', 'NORMAL', 'EXTRA'])('is insisted on: %s is refused', async (level) => {
    const db = connect(await newState());
    db.pragma(`synchronous = ${level}`);
    expect(await codeOf(() => assertDurable(db))).toBe('integrity-state');
    db.close();
  });
});

describe('a server that is shown a checkpoint of its own log', () => {
  let authority: SoftwareAuthority;
  let client: Client;

  async function shown(
    note: (authority: SoftwareAuthority) => Promise<string> | string,
  ): Promise<{ code: string; next: string }> {
    authority = await softwareAuthority();
    onTestFinished(() => authority.close());
    const server = await listeningServer(authority);
    onTestFinished(() => server.close());
    const tokens = [await newToken(authority, { uses: 5 })];
    const checkpoint = await note(authority);
    const treeSize = Number(checkpoint.split('\n')[1]);
    client = await Client.connect(server);
    onTestFinished(() => client.close());
    const token = tokens[0]?.token ?? '';
    const { code } = await client.enroll(token, {
      checkpoint,
      ...(Number.isSafeInteger(treeSize) ? { treeSize } : {}),
    });
    return { code, next: (await client.enroll(token)).code };
  }

  /** The signer signs one leaf more than the server's log has: so it was, before somebody set the log back. */
  async function larger({ signer, tree }: SoftwareAuthority): Promise<string> {
    const leaf = recordLeaf('operator', 1, { verb: 'lost' }).bytes;
    return (await signer.append({ firstIndex: tree.size, items: [{ purpose: 'record', leaf }] })).checkpoint
      .note;
  }

  test('that is larger stops issuing, for everybody and for good; revocations are still taken', async () => {
    expect(await shown(larger)).toEqual({ code: 'unavailable-signer', next: 'unavailable-signer' });
    expect(authority.sequencer.haltedBy()?.code).toBe('integrity-rewind');
    // The server's own is there already.
    expect(
      authority.store.certificates({ limit: 10 }).filter((one) => one.entryId !== undefined),
    ).toHaveLength(0);
    const [own] = authority.store.certificates({ limit: 1 });
    await revoked({ by: 'serial', serial: own?.serial ?? ('' as Serial), only: false });
    expect(authority.store.revocation(authority.issuer.keyId, own?.serial ?? ('' as Serial))).toBeDefined();
  });

  test('that is larger stops issuing over a restart, too', async () => {
    await shown(larger);
    const kept = await eventually(() => authority.store.rewindEvidence());
    const sequencer = new Sequencer({ ...authority, logKeys: [logKeyOf(authority)] });
    haltIfRewound({ checkpoint: kept }, { ...authority, sequencer, logKeys: [logKeyOf(authority)] });
    expect(sequencer.haltedBy()?.code).toBe('integrity-rewind');
    await sequencer.close();
  });

  test.each(['id', 'token', 'entry'] as const)('that is larger still takes revocations by %s', async (by) => {
    await shown(larger);
    const [token] = authority.store.tokens({ limit: 1 });
    if (!token) throw new Error('a token');
    const targets = {
      id: { by: 'id', spiffeId: parseSpiffeId(`spiffe://${trustDomain}/orders`) },
      token: { by: 'token', tokenId: token.tokenId },
      entry: { by: 'entry', entryId: token.entryId },
    } as const;
    expect(await codeOf(() => revoked(targets[by]))).toBe('allowed');
  });

  async function revoked(target: RevocationTarget): Promise<void> {
    const timing = { ...defaultCrlTiming, batchMs: 0 };
    const sinks = { publish: () => undefined, alarm: () => undefined };
    const publisher = new CrlPublisher({ ...authority, publicationUrl, shardCount: 16, timing, ...sinks });
    // Published it can not be now: nothing is signed. Recorded is what counts.
    publisher.covering = () => Promise.resolve(undefined);
    const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
    try {
      await revocation.revoke(target, 'superseded', 'uid:0');
    } finally {
      await publisher.close();
    }
  }

  test('of the same size over other leaves stops issuing, too', async () => {
    const twoViews = async (of: SoftwareAuthority): Promise<string> => {
      const note = await larger(of);
      // The server's own leaf at that place is another; its signer is away meanwhile.
      of.signer.state = 'degraded';
      await of.sequencer.record({ kind: 'operator', leaf: recordLeaf('operator', 2, { verb: 'other' }) });
      of.signer.state = 'usable';
      return note;
    };
    const { code } = await shown(twoViews);
    expect(code).not.toBe('allowed');
    expect(authority.sequencer.haltedBy()?.code).toBe('integrity-log');
  });

  test.each<[string, (of: SoftwareAuthority) => Promise<string> | string]>([
    ['one it has', (of) => of.sequencer.checkpoint()?.note ?? ''],
    ['a larger one with a signature that does not hold', async (of) => (await strangers(of)).note],
    [
      'a larger one whose size was changed',
      (of) => (of.sequencer.checkpoint()?.note ?? '').replace(/\n\d+\n/, '\n999999\n'),
    ],
    ['something that is none', () => 'hello'],
  ])('does not stop by %s: what proves nothing is no way to shut it down', async (_name, note) => {
    const { next } = await shown(note);
    expect(next).toBe('allowed');
    expect(authority.sequencer.haltedBy()).toBeUndefined();
  });

  /** A checkpoint of another authority of the same name, with another log key. */
  async function strangers(of: SoftwareAuthority): Promise<{ note: string }> {
    const other = await softwareAuthority();
    onTestFinished(() => other.close());
    while (other.tree.size <= of.tree.size + 3)
      await other.sequencer.record({
        kind: 'operator',
        leaf: recordLeaf('operator', 1, { n: other.tree.size }),
      });
    const leaf = recordLeaf('operator', 1, { verb: 'x' }).bytes;
    return (await other.signer.append({ firstIndex: other.tree.size, items: [{ purpose: 'record', leaf }] }))
      .checkpoint;
  }
});

describe('the program', () => {
  let authority: Authority;
  beforeAll(async () => {
    authority = await bootAuthority();
    await authority.enroll('orders');
  });
  afterAll(async () => {
    await authority.server.end();
  });

  test('[guard] does not run twice on one state, whatever its ports: the second writes nothing, the first goes on', async () => {
    const config = authority.path('second.yaml');
    const text = readFileSync(authority.config, 'utf8');
    writeFileSync(config, text.replaceAll(/listen: (127\.\d+\.\d+\.\d+):\d+/g, 'listen: $1:0'), {
      mode: 0o600,
    });
    const before = treeSizeOf(authority);
    const second = await runVouch(['server', '--config', config, '--json']);
    expect(second.code).toBe(78);
    expect(second.problem).toMatchObject({
      code: 'config-in-use',
      detail: expect.stringContaining('another vouch process uses this state directory') as unknown,
    });
    expect(treeSizeOf(authority)).toBe(before);
    expect(authority.server.code).toBeUndefined();
    await authority.enroll('billing');
  });

  test('does not init over a state, running or not: nothing of it changes', async () => {
    const files = () =>
      ['vouch.yaml', 'signer/authority.json', 'server/svid.key'].map((name) =>
        hashOf(path.join(authority.state, name)),
      );
    const before = files();
    const again = await authority.init();
    expect(again.code).toBe(78);
    expect(again.problem.code).toBe('config-state');
    expect(files()).toEqual(before);
    expect((await authority.vouch('status')).json()).toMatchObject({ state: 'ready' });
  });

  test('takes up at once what a killed one left: the kernel frees the lock', async () => {
    await authority.server.end('SIGKILL');
    await authority.start();
    await authority.enroll('again');
  });

  test('refuses a state that is missing, and makes none', async () => {
    const config = authority.path('missing.yaml');
    const state = authority.path('missing');
    const text = readFileSync(authority.config, 'utf8');
    writeFileSync(config, text.replace(/^state: .*$/m, `state: ${state}`), { mode: 0o600 });
    for (const prepare of [() => undefined, () => mkdirSync(state)]) {
      prepare();
      const ran = await runVouch(['server', '--config', config, '--json']);
      expect(ran.code).toBe(78);
      expect(ran.problem.code).toBe('config-state');
      expect(existsSync(path.join(state, 'vouch.db'))).toBe(false);
      expect(existsSync(path.join(state, 'signer'))).toBe(false);
    }
  });

  test('refuses the state of another trust domain', async () => {
    await authority.server.end();
    const config = authority.path('other.yaml');
    const text = readFileSync(authority.config, 'utf8');
    writeFileSync(config, text.replace(/^trustDomain: .*$/m, 'trustDomain: other.example'), { mode: 0o600 });
    const ran = await runVouch(['server', '--config', config, '--json']);
    expect([ran.code, ran.problem.code]).toEqual([78, 'config-state']);
    await authority.start();
  });

  test('refuses a log whose end was cut off, without asking the token', async () => {
    await authority.enroll('cut');
    await authority.server.end();
    const kept = authority.path('kept');
    cpSync(authority.state, kept, { recursive: true });
    const db = new Database(path.join(authority.state, 'vouch.db'));
    db.pragma('foreign_keys = OFF');
    const triggers = db
      .prepare("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
      .pluck()
      .all() as string[];
    for (const name of triggers) db.exec(`DROP TRIGGER ${name}`);
    const last = db.prepare('SELECT max(leaf_index) FROM leaves').pluck().get() as number;
    for (const table of ['token_uses', 'certificates', 'crls', 'leaves'])
      db.prepare(`DELETE FROM ${table} WHERE leaf_index >= ?`).run(last);
    db.close();
    const hidden = `${authority.tokens.online.pinFile}.away`;
    renameSync(authority.tokens.online.pinFile, hidden);
    const cut = await authority.refusal();
    expect(cut.problem).toMatchObject({ code: 'integrity-rewind' });
    expect(cut.problem.detail).toContain('its end is missing');
    renameSync(hidden, authority.tokens.online.pinFile);
    restore(kept);
    await authority.start();
  });

  test('refuses the database of another authority of the same name, and its own put back from an earlier time', async () => {
    await authority.server.end();
    const kept = authority.path('kept');
    cpSync(authority.state, kept, { recursive: true });
    await authority.start();
    await authority.enroll('later');
    await authority.server.end();
    const today = authority.path('today');
    renameSync(authority.state, today);

    cpSync(kept, authority.state, { recursive: true });
    const rewound = await authority.refusal();
    expect(rewound.code).not.toBe(0);
    expect(rewound.problem.code).toMatch(/^integrity-/);

    const stranger = await initAuthority();
    restore(today);
    for (const name of ['vouch.db', 'vouch.db-wal', 'vouch.db-shm']) {
      rmSync(path.join(authority.state, name), { force: true });
      const file = path.join(stranger.state, name);
      if (existsSync(file)) cpSync(file, path.join(authority.state, name));
    }
    const foreign = await authority.refusal();
    expect(foreign.code).not.toBe(0);
    expect(foreign.problem.code).toMatch(/^(?:integrity|config)-/);

    // What it refused it left as it was: with today's state it goes on.
    restore(today);
    await authority.start();
    await authority.enroll('after');
    expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
      problems: [],
    });
  });

  function restore(from: string): void {
    rmSync(authority.state, { recursive: true, force: true });
    cpSync(from, authority.state, { recursive: true });
  }
});

function treeSizeOf(authority: Authority): number {
  const store: Store = openSqliteStore(path.join(authority.state, 'vouch.db'), { readonly: true });
  const size = store.treeSize();
  void store.close();
  return size;
}

function hashOf(file: string): string {
  return createHash('sha256').update(readFileSync(file)).digest('hex');
}

function connectUnmarkedNew(file: string): Database.Database {
  writeFileSync(file, '');
  return connectUnmarked(file);
}

/** Makes enough garbage that what nobody holds is collected. */
async function churn(): Promise<void> {
  for (let round = 0; round < 30; round += 1) {
    Array.from({ length: 20_000 }, (_, n) => ({ n, text: String(n) }));
    await new Promise((resolve) => setImmediate(resolve));
  }
}

/** What each SQLite connection of this process does first: `asserted` where it reads back `synchronous`. */
function watchConnections(): { connections: Map<object, string>; restore: () => void } {
  const connections = new Map<object, string>();
  const prototype = Database.prototype as unknown as Record<string, (...args: unknown[]) => unknown>;
  const originals = ['pragma', 'exec', 'prepare', 'transaction', 'backup'].map(
    (name) => [name, prototype[name]] as const,
  );
  for (const [name, original] of originals)
    prototype[name] = function watched(this: object, ...args: unknown[]) {
      const isSetting = name === 'pragma' && /^\w+ = /.test(String(args[0]));
      const isReading = name === 'pragma' && args[0] === 'synchronous';
      const result = original?.apply(this, args);
      if (!connections.has(this) && !isSetting)
        connections.set(this, isReading && result === 2 ? 'asserted' : `${name} ${String(args[0])}`);
      return result;
    };
  return {
    connections,
    restore: () => {
      for (const [name, original] of originals) if (original) prototype[name] = original;
    },
  };
}
