import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseSpiffeId } from '../../../src/core/spiffe-id.ts';
import type { Connection } from '../../../src/store/sqlite/connection.ts';
import { connect } from '../../../src/store/sqlite/connection.ts';
import type { SqliteStore } from '../../../src/store/sqlite/store.ts';
import { createSqliteStore } from '../../../src/store/sqlite/store.ts';
import {
  certificateMutation,
  crlMutation,
  identity,
  keyHash,
  leaf,
  nothingSigned,
  operatorMutation,
  redemption,
  revocationMutation,
  startMs,
  tokenMutation,
} from '../fixture.ts';
import { temporaryDirectory } from './state.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let store: SqliteStore;
let db: Connection;

beforeEach(() => {
  directory = temporaryDirectory();
  const file = join(directory.path, 'vouch.db');
  store = createSqliteStore(file, identity);
  db = connect(file);
});
afterEach(async () => {
  db.close();
  await store.close();
  directory.remove();
});

/** Per table of facts: the columns that may change, each once. */
const facts: Record<string, string[]> = {
  state_identity: [],
  leaves: [],
  certificates: ['signature'],
  token_uses: [],
  join_tokens: ['uses_taken', 'revoked_at_ms'],
  revocations: ['crl_date_seconds', 'may_leave', 'followed_by'],
  blocked_keys: [],
  mass_revocations: ['event_count', 'ended_by'],
  crls: ['signature'],
  statements: [],
  cross_certificates: [],
  jwt_keys: [],
};

/** What triggers say, or the column itself. */
const refusal =
  /append-only|is fixed|CHECK|only a hold|fixed by its first|once|is final|stays|on record|must follow|higher sequence|NOT NULL|keeps|never forgotten|come back/;

describe('rows that are facts', () => {
  beforeEach(async () => {
    const token = tokenMutation();
    const certificate = redemption(token);
    const revocation = revocationMutation(certificate.certificate, { blockKeySha256: keyHash() });
    const { serial } = certificate.certificate;
    const crl = crlMutation({ datesFixed: [{ serial, crlDateSeconds: startMs / 1000 }] });
    const statement = { kind: 'statement' as const, leaf: leaf(), sequence: 1, statement: 'jws' };
    const chain = { kind: 'cross-certificate' as const, leaf: leaf(), chainPem: 'pem' };
    const jwtKey = {
      kind: 'jwt-key' as const,
      leaf: leaf(),
      jwtKey: { issuerKeyId: 'a', keyId: 'b', publicKeySpki: randomBytes(91) },
    };
    const revoked = {
      kind: 'token-revoked' as const,
      leaf: leaf(),
      tokenId: token.token.tokenId,
      atMs: startMs,
    };
    const massRevocation = {
      ...{ target: '{}', reason: 'superseded' as const, invalidityDateSeconds: undefined },
      ...{ operator: 'uid:0', startedAtMs: startMs },
    };
    const mass = { kind: 'mass-revocation' as const, leaf: leaf(), massRevocation };
    const outcomes = await store.commitBatch(
      [token, certificate, revocation, crl, statement, revoked, chain, mass, jwtKey],
      nothingSigned,
    );
    expect(outcomes.map(({ status }) => status)).toEqual(Array.from({ length: 9 }, () => 'committed'));
    await store.storeSigned({
      signatures: [
        { kind: 'certificate', leafIndex: 1, signature: randomBytes(70) },
        { kind: 'crl', leafIndex: 3, signature: randomBytes(70) },
      ],
      checkpointNote: undefined,
    });
    db.exec('UPDATE revocations SET may_leave = 1');
  });

  it.each(Object.keys(facts))('cannot be changed in any column, deleted or replaced: %s', (table) => {
    const before = db.prepare(`SELECT * FROM ${table}`).all();
    expect(before.length).toBe(table === 'leaves' ? 9 : 1);
    for (const column of columnsOf(table)) {
      // Also to the value that it has: naming the column is enough, unless it is one that may still move.
      const values = (facts[table] ?? []).includes(column) ? ['NULL'] : [column];
      for (const value of values)
        expect(() => db.exec(`UPDATE ${table} SET ${column} = ${value}`), `${table}.${column}`).toThrow(
          refusal,
        );
    }
    expect(() => db.exec(`DELETE FROM ${table}`)).toThrow(refusal);
    expect(() => db.exec(`INSERT OR REPLACE INTO ${table} SELECT * FROM ${table}`)).toThrow(refusal);
    expect(db.prepare(`SELECT * FROM ${table}`).all()).toEqual(before);
  });

  it.each([
    ['a signature of a certificate', "UPDATE certificates SET signature = x'00'"],
    ['a signature of a CRL', "UPDATE crls SET signature = x'00'"],
    ['a revocation date', 'UPDATE revocations SET crl_date_seconds = crl_date_seconds + 1'],
    ['that it may leave', 'UPDATE revocations SET may_leave = 0'],
    ['a revocation, by one that comes before it', 'UPDATE revocations SET followed_by = 0'],
    ['a piece of a CRL', "INSERT INTO crl_pieces VALUES (1, x'00'); UPDATE crl_pieces SET bytes = x'01'"],
    [
      'a revocation, by a release',
      `INSERT INTO revocations SELECT leaf_index + 100, issuer_key_id, serial || '00', shard, revoked_at_ms, 'removeFromCRL', NULL, operator,
         salt, not_after_ms, NULL, 0, NULL FROM revocations`,
    ],
    ['a use of a token', 'UPDATE join_tokens SET uses_taken = 0'],
    ['the end of a token', 'UPDATE join_tokens SET revoked_at_ms = revoked_at_ms + 1'],
    ["an entry's id", "UPDATE entries SET entry_id = 'e_other'"],
    ["an entry's parent", "UPDATE entries SET parent_id = 'spiffe://example.test/other'"],
    ["an entry's end", 'UPDATE entries SET deleted_at_ms = 1; UPDATE entries SET deleted_at_ms = NULL'],
    ['an entry', 'DELETE FROM entries'],
    ['the numbers of CRLs', 'DELETE FROM crl_scopes'],
  ])('does not take back or replace %s', (_what, sql) => {
    expect(() => db.exec(sql)).toThrow(refusal);
  });

  it('takes a leaf only after the last one', () => {
    const insert = db.prepare('INSERT INTO leaves (leaf_index, hash, bytes) VALUES (?, ?, ?)');
    for (const leafIndex of [10, 8, 0])
      expect(() => insert.run(leafIndex, randomBytes(32), randomBytes(3))).toThrow(/follow the last/);
    expect(() => insert.run(null, randomBytes(32), randomBytes(3)), 'SQLite would pick a number').toThrow(
      refusal,
    );
    insert.run(9, randomBytes(32), randomBytes(3));
  });
});

describe('a trigger that refuses one insert', () => {
  const billing = parseSpiffeId('spiffe://example.test/billing');

  it('fails that mutation only, with its token use unburnt', async () => {
    const token = tokenMutation({ entry: { ...tokenMutation().entry, spiffeId: billing } });
    await store.commitBatch([token], nothingSigned);
    db.exec(
      `CREATE TRIGGER fault BEFORE INSERT ON certificates WHEN NEW.spiffe_id = '${billing}' BEGIN SELECT RAISE(ABORT, 'fault'); END`,
    );
    const [before, after] = [certificateMutation(), operatorMutation()];
    const outcomes = await store.commitBatch([before, redemption(token), after], nothingSigned);
    expect(outcomes).toMatchObject([
      { status: 'committed', leafIndex: 1 },
      { status: 'refused', code: 'internal', cause: expect.any(Database.SqliteError) },
      { status: 'committed', leafIndex: 2 },
    ]);
    expect(store.leaves(1, 3)).toEqual([before.leaf.bytes, after.leaf.bytes]);
    expect(store.token(token.token.tokenId)?.usesTaken).toBe(0);
    db.exec('DROP TRIGGER fault');
    expect(await store.commitBatch([redemption(token)], nothingSigned)).toMatchObject([
      { status: 'committed', leafIndex: 3 },
    ]);
  });

  it('also where the refusal comes after the insert, at the use of the token', async () => {
    const token = tokenMutation();
    await store.commitBatch([token], nothingSigned);
    db.exec(`CREATE TRIGGER fault BEFORE INSERT ON token_uses BEGIN SELECT RAISE(ABORT, 'fault'); END`);
    expect(await store.commitBatch([redemption(token)], nothingSigned)).toMatchObject([
      { status: 'refused', code: 'internal' },
    ]);
    expect(store.token(token.token.tokenId)?.usesTaken).toBe(0);
    expect(store.certificatesByLeaf(0, 9)).toEqual([]);
    expect(store.treeSize()).toBe(1);
  });

  it('fails the whole batch, acknowledging nothing, where it ends the transaction', async () => {
    db.exec(`CREATE TRIGGER fault BEFORE INSERT ON certificates BEGIN SELECT RAISE(ROLLBACK, 'fault'); END`);
    await expect(
      store.commitBatch([operatorMutation(), certificateMutation(), operatorMutation()], nothingSigned),
    ).rejects.toMatchObject({
      code: 'unavailable-store',
    });
    expect(store.treeSize()).toBe(0);
    db.exec('DROP TRIGGER fault');
    expect(await store.commitBatch([certificateMutation()], nothingSigned)).toMatchObject([
      { status: 'committed', leafIndex: 0 },
    ]);
  });
});

function columnsOf(table: string): string[] {
  return db.prepare<[string], string>('SELECT name FROM pragma_table_info(?)').pluck().all(table);
}
