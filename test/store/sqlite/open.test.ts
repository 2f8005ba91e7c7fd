import { randomBytes } from 'node:crypto';
import { closeSync, openSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import {
  applicationId,
  assertDurable,
  connect,
  connectUnmarked,
  enterWal,
} from '../../../src/store/sqlite/connection.ts';
import { createSqliteStore, openSqliteStore } from '../../../src/store/sqlite/store.ts';
import { CrlList } from '../../../src/x509/crl-list.ts';
import { encodeRevoked } from '../../../src/x509/crl-tbs.ts';
import {
  committed,
  crlMutation,
  freshSerial,
  identity,
  nothingSigned,
  operatorMutation,
} from '../fixture.ts';
import { temporaryDirectory } from './state.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let file: string;

beforeEach(() => {
  directory = temporaryDirectory();
  file = join(directory.path, 'vouch.db');
});
afterEach(() => directory.remove());

describe('I10 init creates, run refuses', () => {
  it('opens nothing that is not there, and leaves nothing behind', () => {
    expect(() => openSqliteStore(file)).toThrow(
      expect.objectContaining({ code: 'config-state', message: expect.stringContaining('vouch init') }),
    );
    expect(() => openSqliteStore(join(directory.path, 'no', 'vouch.db'))).toThrow(
      expect.objectContaining({ code: 'config-state' }),
    );
    expect(readdirSync(directory.path)).toEqual([]);
  });

  it.each([
    ['an empty file, as an init killed early leaves', () => closeSync(openSync(file, 'w'))],
    ['a file that is no database', () => writeFileSync(file, 'x'.repeat(8192))],
    [
      'a database of another program',
      () => new Database(file).exec('CREATE TABLE t (a); PRAGMA application_id = 252006673').close(),
    ],
  ])('refuses %s, and does not touch it', (_what, make) => {
    make();
    const { size, mtimeMs } = statSync(file);
    for (const readonly of [false, true])
      expect(() => openSqliteStore(file, { readonly })).toThrow(
        expect.objectContaining({
          code: 'config-state',
          message: expect.stringContaining('not a Vouch database'),
        }),
      );
    expect(statSync(file)).toMatchObject({ size, mtimeMs });
  });

  it('refuses a marked database without a schema', () => {
    new Database(file).exec(`PRAGMA application_id = ${applicationId}`).close();
    expect(() => openSqliteStore(file)).toThrow(expect.objectContaining({ code: 'config-state' }));
  });

  it('creates only where nothing is, readable by its owner only', async () => {
    await createSqliteStore(file, identity).close();
    expect(statSync(file).mode & 0o777).toBe(0o600);
    expect(() => createSqliteStore(file, identity)).toThrow(
      expect.objectContaining({ code: 'config-state' }),
    );
    const store = openSqliteStore(file);
    expect(store.identity()).toEqual(identity);
    expect(statSync(`${file}-wal`).mode & 0o777).toBe(0o600);
    await store.close();
  });

  it('leaves nothing of a creation that failed', () => {
    expect(() => createSqliteStore(file, { ...identity, serialPrefix: 0x80 })).toThrow(
      expect.objectContaining({ code: 'config-state' }),
    );
    expect(readdirSync(directory.path)).toEqual([]);
    createSqliteStore(file, identity);
  });
});

describe('durability', () => {
  it('I10 asserts synchronous=FULL on every connection', async () => {
    const store = createSqliteStore(file, identity);
    const connections = [connect(file), connect(file, { readonly: true }), connectUnmarked(file)];
    for (const db of connections) {
      expect(db.pragma('synchronous', { simple: true })).toBe(2);
      expect(() => assertDurable(db)).not.toThrow();
      db.pragma('synchronous = NORMAL');
      expect(() => assertDurable(db)).toThrow(expect.objectContaining({ code: 'integrity-state' }));
      db.close();
    }
    await store.close();
  });

  it('has references, strict tables and the rest of the settings on', async () => {
    await createSqliteStore(file, identity).close();
    const db = connect(file);
    enterWal(db);
    const settings = [
      'journal_mode',
      'foreign_keys',
      'trusted_schema',
      'recursive_triggers',
      'cell_size_check',
      'busy_timeout',
      'wal_autocheckpoint',
    ];
    expect(settings.map((name) => db.pragma(name, { simple: true }))).toEqual(['wal', 1, 0, 1, 1, 1000, 0]);
    const tables = db
      .prepare(
        `SELECT name, strict FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%'`,
      )
      .all();
    expect(tables.length).toBeGreaterThan(10);
    expect(tables.filter((table) => (table as { strict: number }).strict !== 1)).toEqual([]);
    expect(() =>
      db.exec(`INSERT INTO leaves (leaf_index, hash, bytes) VALUES (0, zeroblob(32), 'text')`),
    ).toThrow(/cannot store TEXT/);
    db.close();
  });
});

describe('a store opened for reading', () => {
  it('sees the state as it was at opening, and refuses to write', async () => {
    const store = createSqliteStore(file, identity);
    await committed(store, operatorMutation());
    const reader = openSqliteStore(file, { readonly: true });
    await committed(store, operatorMutation());
    expect(reader.treeSize()).toBe(1);
    expect(reader.leaves(0, 1).length).toBe(1);
    expect(reader.writable()).toBe(false);
    await expect(reader.commitBatch([operatorMutation()], nothingSigned)).rejects.toThrow(
      /opened for reading/,
    );
    await expect(reader.setClockMark({ wallMs: 1, monotonicMs: 1, bootId: '' })).rejects.toThrow(
      /opened for reading/,
    );
    await reader.close();
    expect(store.treeSize()).toBe(2);
    await store.close();
  });
});

describe('another process that holds the database', () => {
  it('makes a write fail in bounded time, with nothing written', async () => {
    const store = createSqliteStore(file, identity);
    const other = connect(file);
    other.exec('BEGIN IMMEDIATE');
    const startMs = performance.now();
    await expect(store.commitBatch([operatorMutation()], nothingSigned)).rejects.toMatchObject({
      code: 'unavailable-store',
      retryAfterSeconds: 1,
      message: expect.stringContaining('try again'),
    });
    expect(performance.now() - startMs).toBeLessThan(6_000);
    other.exec('ROLLBACK');
    other.close();
    expect(store.writable()).toBe(true);
    expect(await committed(store, operatorMutation())).toBe(0);
    await store.close();
  });
});

describe('pieces of CRLs', () => {
  const piece = () => ({ bytes: randomBytes(100), count: 1 });
  const stored = () => {
    const db = connect(file, { readonly: true });
    const ids = db.prepare<[], number>('SELECT piece_id FROM crl_pieces ORDER BY 1').pluck().all();
    db.close();
    return ids;
  };

  it('that no CRL got before the process ended are cleared at the next start', async () => {
    const store = createSqliteStore(file, identity);
    await store.putPieces([piece(), piece()]);
    expect(stored()).toEqual([1, 2]);
    await store.close();
    const reader = openSqliteStore(file, { readonly: true });
    await reader.close();
    expect(stored(), 'a reader clears nothing').toEqual([1, 2]);
    await openSqliteStore(file).close();
    expect(stored()).toEqual([]);
  });

  it('are deleted with the last CRL that has them, and are only written once', async () => {
    const store = createSqliteStore(file, identity);
    const [first, other] = [oneEntry(), oneEntry()];
    const publish = (crlNumber: bigint, list: CrlList) => {
      const tbs = { head: randomBytes(9), list, tail: randomBytes(9) };
      return committed(store, crlMutation({ crlNumber, tbs }));
    };
    await publish(1n, first);
    await publish(2n, first);
    await store.putPieces(first.pieces);
    expect(stored()).toEqual([1]);
    await publish(3n, other);
    expect(stored()).toEqual([1, 2]);
    await publish(4n, other);
    expect(stored()).toEqual([2]);
    await store.close();
  });

  it('that are gone or damaged are said to be', async () => {
    const store = createSqliteStore(file, identity);
    const tbs = { head: randomBytes(9), list: oneEntry(), tail: randomBytes(9) };
    await committed(store, crlMutation({ tbs }));
    await store.close();
    for (const change of ["UPDATE crl_pieces SET bytes = x'3000'", 'DELETE FROM crl_pieces']) {
      const db = connect(file);
      db.exec(`DROP TRIGGER IF EXISTS crl_pieces_are_fixed; ${change}`);
      db.close();
      const opened = openSqliteStore(file);
      expect(() => opened.crls()).toThrow(expect.objectContaining({ code: 'integrity-state' }));
      await opened.close();
    }
  });

  function oneEntry(): CrlList {
    const entry = { serial: freshSerial(), dateSeconds: 1, reason: 'superseded' as const };
    return CrlList.of([encodeRevoked(entry)]);
  }
});
