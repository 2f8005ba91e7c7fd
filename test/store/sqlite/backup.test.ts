import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connect } from '../../../src/store/sqlite/connection.ts';
import type { SqliteStore } from '../../../src/store/sqlite/store.ts';
import { createSqliteStore, openSqliteStore } from '../../../src/store/sqlite/store.ts';
import { certificateMutation, identity, nothingSigned, operatorMutation } from '../fixture.ts';
import { temporaryDirectory } from './state.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let store: SqliteStore;
let target: string;

beforeEach(() => {
  directory = temporaryDirectory();
  store = createSqliteStore(join(directory.path, 'vouch.db'), identity);
  target = join(directory.path, 'copy.db');
});
afterEach(async () => {
  await store.close();
  directory.remove();
});

describe('backup', () => {
  it('is one private file, complete, and readable alone', async () => {
    await store.commitBatch([certificateMutation(), operatorMutation()], {
      signatures: [],
      checkpointNote: 'note',
    });
    await store.backup(target);
    expect(statSync(target).mode & 0o777).toBe(0o600);
    expect(readdirSync(directory.path).toSorted()).toEqual([
      'copy.db',
      'vouch.db',
      'vouch.db-shm',
      'vouch.db-wal',
    ]);
    const copy = openSqliteStore(target, { readonly: true });
    expect([copy.identity(), copy.treeSize(), copy.checkpointNote()]).toEqual([identity, 2, 'note']);
    expect(copy.leaves(0, 2)).toEqual(store.leaves(0, 2));
    await copy.close();
    expect(readdirSync(directory.path).filter((name) => name.startsWith('copy'))).toEqual(['copy.db']);
  });

  it('is a state of one moment while writing goes on', async () => {
    const large = () => certificateMutation({ tbs: Buffer.alloc(3_000, 1) });
    for (let round = 0; round < 10; round += 1)
      await store.commitBatch(Array.from({ length: 60 }, large), nothingSigned);
    const before = store.treeSize();
    let done = false;
    const copying = store.backup(target).finally(() => {
      done = true;
    });
    let during = 0;
    while (!done) {
      await store.commitBatch([large(), operatorMutation()], {
        signatures: [],
        checkpointNote: String(store.treeSize() + 2),
      });
      during += 1;
      await new Promise(setImmediate);
    }
    await copying;
    expect(during).toBeGreaterThan(3);
    const copy = openSqliteStore(target);
    const size = copy.treeSize();
    expect(size).toBeGreaterThanOrEqual(before);
    expect(size).toBeLessThanOrEqual(store.treeSize());
    expect(copy.checkpointNote() ?? String(size)).toBe(String(size));
    expect(copy.leafHashes(0, size)).toEqual(store.leafHashes(0, size));
    expect(copy.certificatesByLeaf(0, size).length).toBe(600 + (size - 600) / 2);
    await copy.close();
    const db = connect(target);
    expect(db.pragma('integrity_check', { simple: true })).toBe('ok');
    db.close();
  });

  it('can be opened for writing again', async () => {
    await store.commitBatch([operatorMutation()], nothingSigned);
    await store.backup(target);
    const copy = openSqliteStore(target);
    expect(await copy.commitBatch([operatorMutation()], nothingSigned)).toEqual([
      { status: 'committed', leafIndex: 1 },
    ]);
    await copy.close();
    expect(store.treeSize()).toBe(1);
  });

  it('replaces no file, least of all the database', async () => {
    writeFileSync(target, 'precious');
    for (const file of [target, join(directory.path, 'vouch.db')])
      await expect(store.backup(file)).rejects.toMatchObject({ code: 'config-state' });
    expect(statSync(target).size).toBe(8);
    expect(await store.commitBatch([operatorMutation()], nothingSigned)).toMatchObject([
      { status: 'committed' },
    ]);
  });

  it('says where it cannot write, and leaves nothing', async () => {
    await expect(store.backup(join(directory.path, 'no', 'copy.db'))).rejects.toMatchObject({
      code: 'config-state',
    });
    expect(existsSync(join(directory.path, 'no'))).toBe(false);
  });

  it('is finished before the store closes', async () => {
    const copying = store.backup(target);
    await store.close();
    await copying;
    const copy = openSqliteStore(target, { readonly: true });
    expect(copy.identity()).toEqual(identity);
    await copy.close();
  });
});
