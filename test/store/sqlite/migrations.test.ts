import { randomBytes } from 'node:crypto';
import { cpSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  applicationId,
  type Connection,
  connect,
  connectUnmarked,
  enterWal,
} from '../../../src/store/sqlite/connection.ts';
import {
  applyMigrations,
  defaultMigrations,
  migrate,
  readMigrations,
} from '../../../src/store/sqlite/migrations.ts';
import { parseSpiffeId } from '../../../src/core/spiffe-id.ts';
import { createSqliteStore, openSqliteStore } from '../../../src/store/sqlite/store.ts';
import { joinedCrl } from '../../../src/x509/crl-tbs.ts';
import {
  committed,
  entry,
  freshSerial,
  identity,
  issuerKeyId,
  keyHash,
  leaf,
  operatorMutation,
  outcomeOf,
  revocationMutation,
  startMs,
} from '../fixture.ts';
import { temporaryDirectory } from './state.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let file: string;
let migrations: string;
let shipped: number;

beforeEach(() => {
  directory = temporaryDirectory();
  file = join(directory.path, 'vouch.db');
  migrations = join(directory.path, 'migrations');
  mkdirSync(migrations);
  cpSync(defaultMigrations(), migrations, { recursive: true });
  shipped = readMigrations(migrations).length;
});
afterEach(() => directory.remove());

/** Adds the SQL file that comes `ahead` after the shipped ones. */
function add(name: string, sql: string, ahead = 1): string {
  const path = join(migrations, `${String(shipped + ahead).padStart(4, '0')}_${name}.sql`);
  writeFileSync(path, sql);
  return path;
}

async function stateWithOneLeaf(): Promise<void> {
  const store = createSqliteStore(file, identity, { migrations });
  await committed(store, operatorMutation());
  await store.close();
}

describe('migrations', () => {
  it('are plain SQL files, numbered from 0001 on', () => {
    expect(readMigrations(defaultMigrations())[0]).toMatchObject({ version: 1, name: '0001_initial.sql' });
  });

  it.each([
    ['a gap', () => add('later', 'SELECT 1', 2)],
    ['a duplicate', () => writeFileSync(join(migrations, '0001_again.sql'), 'SELECT 1')],
    ['a misnamed file', () => writeFileSync(join(migrations, '2_short.sql'), 'SELECT 1')],
    ['a file before the first', () => writeFileSync(join(migrations, '0000_zero.sql'), 'SELECT 1')],
  ])('refuse %s', async (_what, spoil) => {
    await stateWithOneLeaf();
    spoil();
    const refusal = expect.objectContaining({ code: 'config-schema' });
    expect(() => openSqliteStore(file, { migrations })).toThrow(refusal);
    await expect(migrate(file, { migrations })).rejects.toEqual(refusal);
  });

  it('ignore other files', async () => {
    writeFileSync(join(migrations, 'README.md'), 'hello');
    await stateWithOneLeaf();
    expect(readMigrations(migrations).length).toBe(shipped);
  });

  it('note their checksums in the database', async () => {
    await stateWithOneLeaf();
    const db = connect(file);
    const rows = db.prepare('SELECT version, name, sha256 FROM schema_migrations ORDER BY version').all();
    db.close();
    expect(rows).toEqual(
      readMigrations(migrations).map(({ version, name, sha256 }) => ({ version, name, sha256 })),
    );
  });

  it('refuse a database after an applied file was changed, by one byte', async () => {
    await stateWithOneLeaf();
    const path = join(migrations, '0001_initial.sql');
    writeFileSync(path, `${readFileSync(path, 'utf8')}\n`);
    const refusal = expect.objectContaining({
      code: 'config-schema',
      message: expect.stringContaining('0001_initial.sql'),
    });
    expect(() => openSqliteStore(file, { migrations })).toThrow(refusal);
    expect(() => openSqliteStore(file, { migrations, readonly: true })).toThrow(refusal);
    await expect(migrate(file, { migrations })).rejects.toEqual(refusal);
  });

  it('I10 an older schema is refused, saying what to run', async () => {
    await stateWithOneLeaf();
    add('next', 'CREATE TABLE extra (a INTEGER) STRICT');
    expect(() => openSqliteStore(file, { migrations })).toThrow(
      expect.objectContaining({ code: 'config-schema', message: expect.stringContaining('vouch migrate') }),
    );
  });

  it('I10 a newer schema is refused, also by migrate', async () => {
    add('next', 'CREATE TABLE extra (a INTEGER) STRICT');
    await stateWithOneLeaf();
    const refusal = expect.objectContaining({
      code: 'config-schema',
      message: expect.stringContaining('newer'),
    });
    expect(() => openSqliteStore(file)).toThrow(refusal);
    await expect(migrate(file)).rejects.toEqual(refusal);
  });
});

/** A state of an earlier schema, as the program of that time left it. */
function stateOfSchema(version: number, fill: (db: Connection) => void): void {
  writeFileSync(file, '');
  const db = connectUnmarked(file);
  enterWal(db);
  db.exec('BEGIN');
  db.pragma(`application_id = ${applicationId}`);
  applyMigrations(db, readMigrations(migrations).slice(0, version));
  const { stateId, trustDomain, logOrigin, serialPrefix, shardCount, createdAtMs } = identity;
  db.prepare('INSERT INTO state_identity VALUES (1, ?, ?, ?, ?, ?, ?)').run(
    ...[stateId, trustDomain, logOrigin, serialPrefix, shardCount, createdAtMs],
  );
  db.exec("INSERT INTO marks (singleton, clock_ms, clock_monotonic_ms, clock_boot_id) VALUES (1, 0, 0, '')");
  fill(db);
  db.exec('COMMIT');
  db.close();
}

describe('the second schema', () => {
  it('gives each authority the algorithm that it had to have before, and keeps it', async () => {
    stateOfSchema(1, (db) => {
      const insert = 'INSERT INTO authorities (key_id, kind, state, certificate_der) VALUES (?, ?, ?, ?)';
      for (const [name, kind] of [
        ['ab', 'root'],
        ['cd', 'issuer'],
      ] as const)
        db.prepare(insert).run(name.repeat(20), kind, 'active', Buffer.from(kind));
    });
    expect(await migrate(file)).toMatchObject({
      fromVersion: 1,
      applied: expect.arrayContaining(['0002_authority_algorithm.sql']),
    });
    const store = openSqliteStore(file);
    const state = 'active';
    expect(store.authorities()).toEqual([
      {
        keyId: 'ab'.repeat(20),
        kind: 'root',
        state,
        algorithm: 'ecdsa-sha384',
        certificateDer: Buffer.from('root'),
      },
      {
        keyId: 'cd'.repeat(20),
        kind: 'issuer',
        state,
        algorithm: 'ecdsa-sha256',
        certificateDer: Buffer.from('issuer'),
      },
    ]);
    await store.close();
    const migrated = connect(file);
    for (const change of ["algorithm = 'ed25519'", "kind = 'root'", `key_id = '${'ef'.repeat(20)}'`])
      expect(() => migrated.exec(`UPDATE authorities SET ${change}`)).toThrow(/keeps its key/);
    migrated.close();
  });
});

describe('the fourth schema', () => {
  const crl = { scope: 'full', crlNumber: 5n, tbs: randomBytes(300), signature: randomBytes(64) };
  const [held, left] = [freshSerial(), freshSerial()];

  beforeEach(() =>
    stateOfSchema(3, (db) => {
      const run = (sql: string, ...values: unknown[]) => db.prepare(sql).run(...values);
      for (let index = 0; index < 6; index += 1)
        run('INSERT INTO leaves VALUES (?, zeroblob(32), ?)', index, randomBytes(9));
      run(
        "INSERT INTO entries VALUES (1, 'e_1', 'spiffe://example.test/orders', '[]', 1, '[]', '[]', '[]', 'default', NULL, 1, NULL, 0)",
      );
      run("INSERT INTO join_tokens VALUES (1, 't_1', zeroblob(32), 1, 9, 1, '[]', 9, 9, 'uid:1000', NULL)");
      const certificate =
        "INSERT INTO certificates VALUES (?, ?, ?, 'spiffe://example.test/orders', 1, ?, NULL, NULL, ?, 1, ?, 5, NULL, ?, ?, '{}')";
      const rest = [keyHash(), startMs, randomBytes(16), randomBytes(20)];
      run(certificate, 1, issuerKeyId, held, 1, ...rest);
      run(certificate, 2, issuerKeyId, freshSerial(), null, ...rest);
      const revocation = "INSERT INTO revocations VALUES (?, ?, ?, 3, 7, 'superseded', 'uid:0', ?, 8, ?, ?)";
      run(revocation, 3, issuerKeyId, held, randomBytes(16), 9, 0);
      run(revocation, 4, issuerKeyId, left, randomBytes(16), 10, 1);
      run('INSERT INTO blocked_keys VALUES (?, 3)', keyHash());
      run("INSERT INTO crl_scopes VALUES (?, 'full', 5, 1, 4)", issuerKeyId);
      const { crlNumber, scope, signature, tbs } = crl;
      run(
        'INSERT INTO crls VALUES (5, ?, ?, ?, 1, 2, 1, 4, ?, ?)',
        ...[issuerKeyId, scope, crlNumber, signature, tbs],
      );
    }),
  );

  it('makes each revocation the event that counts, and lets it be followed', async () => {
    await migrate(file);
    const store = openSqliteStore(file);
    expect(store.revocationEvents(issuerKeyId, held)).toMatchObject([
      { leafIndex: 3, revokedAtMs: 7, reason: 'superseded', crlDateSeconds: 9, mayLeave: false },
    ]);
    expect(store.revocation(issuerKeyId, left)).toMatchObject({ leafIndex: 4, mayLeave: true });
    expect(store.standingBySerial(issuerKeyId, '', 9).map(({ serial }) => serial)).toEqual([held]);
    const reason = 'keyCompromise';
    const worse = revocationMutation({ issuerKeyId, serial: held, notAfterMs: 8 }, { reason });
    await committed(store, worse);
    expect(store.revocation(issuerKeyId, held)).toMatchObject({ reason, crlDateSeconds: 9 });
    expect(store.rows().blockedKeys('', 9)).toMatchObject([{ leafIndex: 3 }]);
    await store.close();
  });

  it('keeps the bytes of each CRL, in one', async () => {
    await migrate(file);
    const store = openSqliteStore(file);
    const [stored] = store.lastCrls(issuerKeyId);
    expect(stored).toMatchObject({ crlNumber: 5n, signature: crl.signature, coversTreeSize: 4 });
    expect(stored && joinedCrl(stored.tbs).equals(crl.tbs)).toBe(true);
    expect(store.baseCrl(issuerKeyId)).toBeUndefined();
    await store.close();
  });

  it('finds certificates by the operator who made their join token', async () => {
    await migrate(file);
    const store = openSqliteStore(file);
    const found = (operator: string) =>
      store.unexpiredCertificates({ operator }, startMs).map(({ serial }) => serial);
    expect([found('uid:1000'), found('uid:0')]).toEqual([[held], []]);
    await store.close();
  });
});

describe('the sixth schema', () => {
  it('keeps entries of before as nobody’s, which change and are deleted as new ones are', async () => {
    stateOfSchema(5, (db) => {
      db.prepare('INSERT INTO leaves VALUES (0, zeroblob(32), ?)').run(randomBytes(9));
      for (const [number, suspendedAtMs] of [
        [1, null],
        [2, 7],
      ])
        db.prepare(
          `INSERT INTO entries (entry_number, entry_id, spiffe_id, selectors, selector_count, dns_names, ip_addresses, allowed_clients,
             profile, version, suspended_at_ms, created_at_ms) VALUES (?, ?, ?, ?, 1, '[]', '[]', '[]', 'default', 1, ?, 0)`,
        ).run(
          ...[number, `e_${number}`, `spiffe://example.test/host-${number}`],
          ...[JSON.stringify([{ type: 'join_token', value: `t_${number}` }]), suspendedAtMs],
        );
      db.exec("INSERT INTO entry_selectors (selector, entry_number) VALUES ('join_token:t_1', 1)");
    });
    await migrate(file);
    const store = openSqliteStore(file);
    const host = parseSpiffeId('spiffe://example.test/host-1');
    expect(store.entry('e_1')).toMatchObject({ spiffeId: host, parentId: undefined, hint: '' });
    expect(store.entriesMatching(['join_token:t_1']).map(({ entryId }) => entryId)).toEqual(['e_1']);
    expect([store.entries({ limit: 9, parentId: host }), store.entriesChangedBy(host)]).toEqual([
      [],
      undefined,
    ]);
    const spiffeId = parseSpiffeId('spiffe://example.test/host-2');
    const created = (over: object) => ({ kind: 'entry-created' as const, leaf: leaf(), entry: entry(over) });
    expect(await outcomeOf(store, created({ spiffeId, parentId: host }))).toMatchObject({
      code: 'denied-suspended',
    });
    await committed(store, created({ entryId: 'e_3', parentId: host }));
    expect(store.entriesChangedBy(host)).toBe(1);
    const at = { leaf: leaf(), parentId: undefined, atMs: startMs };
    await committed(store, { kind: 'entry-deleted', entryId: 'e_1', ...at });
    expect([store.entry('e_1'), store.isEntryOnRecord('e_1')]).toEqual([undefined, true]);
    await store.close();
  });
});

describe('migrate', () => {
  it('copies the database first and then applies what is pending', async () => {
    await stateWithOneLeaf();
    add('extra', 'CREATE TABLE extra (a INTEGER NOT NULL) STRICT; INSERT INTO extra VALUES (7);');
    add('more', 'UPDATE extra SET a = a + 1', 2);
    const report = await migrate(file, { migrations });
    const [one, two] = [shipped + 1, shipped + 2].map((version) => String(version).padStart(4, '0'));
    expect(report).toEqual({
      fromVersion: shipped,
      toVersion: shipped + 2,
      applied: [`${one}_extra.sql`, `${two}_more.sql`],
      backup: `${file}.schema-${String(shipped).padStart(4, '0')}.bak`,
    });
    const store = openSqliteStore(file, { migrations });
    expect(store.treeSize()).toBe(1);
    await store.close();
    expect(statSync(report.backup ?? '').mode & 0o777).toBe(0o600);
    const copy = openSqliteStore(report.backup ?? '', { readonly: true });
    expect([copy.identity(), copy.treeSize()]).toEqual([identity, 1]);
    await copy.close();
  });

  it('does nothing, and no copy, where nothing is pending', async () => {
    await stateWithOneLeaf();
    expect(await migrate(file, { migrations })).toEqual({
      fromVersion: shipped,
      toVersion: shipped,
      applied: [],
      backup: undefined,
    });
    expect(readdirSync(directory.path).filter((name) => name.endsWith('.bak'))).toEqual([]);
  });

  it.each([
    ['fails half way', 'CREATE TABLE extra (a INTEGER) STRICT; INSERT INTO nowhere VALUES (1);'],
    ['breaks a reference', "INSERT INTO entry_selectors (selector, entry_number) VALUES ('x:y', 99);"],
    ['ends the transaction', 'CREATE TABLE extra (a INTEGER) STRICT; ROLLBACK;'],
  ])('changes nothing where a file %s, and tells the copy', async (_what, sql) => {
    await stateWithOneLeaf();
    add('good', 'CREATE TABLE good (a INTEGER) STRICT');
    add('bad', sql, 2);
    await expect(migrate(file, { migrations })).rejects.toMatchObject({
      code: 'config-schema',
      message: expect.stringContaining('.bak'),
    });
    await expect(migrate(file, { migrations })).rejects.toMatchObject({
      message: expect.stringContaining('.2.bak'),
    });
    const db = connect(file);
    const tables = db.prepare<[], string>('SELECT name FROM sqlite_master').pluck().all();
    db.close();
    expect(tables).not.toContain('extra');
    expect(tables).not.toContain('good');
    expect(openSqliteStore(file).treeSize()).toBe(1);
  });

  it('may rebuild a table that others refer to', async () => {
    await stateWithOneLeaf();
    add(
      'rebuild',
      `CREATE TABLE blocked_new (spki_sha256 TEXT PRIMARY KEY, leaf_index INTEGER NOT NULL REFERENCES revocations, why TEXT) STRICT;
       INSERT INTO blocked_new SELECT spki_sha256, leaf_index, NULL FROM blocked_keys;
       DROP TABLE blocked_keys;
       ALTER TABLE blocked_new RENAME TO blocked_keys;`,
    );
    await migrate(file, { migrations });
    await openSqliteStore(file, { migrations }).close();
  });

  it('refuses what is missing or foreign', async () => {
    await expect(migrate(file)).rejects.toMatchObject({ code: 'config-state' });
    writeFileSync(file, '');
    await expect(migrate(file)).rejects.toMatchObject({ code: 'config-state' });
  });
});
