import path from 'node:path';
import Database from 'better-sqlite3';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type LogVerification, verifyState } from '../../src/audit/verify-state.ts';
import { rootPin } from '../../src/authority/bundle.ts';
import { CrlPublisher, defaultCrlTiming } from '../../src/revocation/publisher.ts';
import { Revocation } from '../../src/revocation/revoke.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import {
  publicationUrl,
  registered,
  requestFor,
  type SoftwareAuthority,
  softwareAuthority,
} from '../support/software-authority.ts';

let authority: SoftwareAuthority;
let serials: string[];

/** Two certificates, one of them revoked and on the CRLs; everything stored. */
beforeEach(async () => {
  authority = await softwareAuthority();
  const issued = [];
  for (const name of ['orders', 'billing']) {
    const { entry, tokenId } = await registered(authority, name);
    issued.push(await authority.issuance.issue(requestFor(entry, tokenId)));
  }
  serials = issued.map((one) => one.record.serial);
  const publisher = new CrlPublisher({
    ...authority,
    publicationUrl,
    shardCount: 16,
    timing: { ...defaultCrlTiming, batchMs: 0 },
    publish: () => undefined,
    alarm: () => undefined,
  });
  publisher.start();
  const revocation = new Revocation({ ...authority, publisher, shardCount: 16 });
  const serial = issued[0]?.record.serial;
  if (!serial) throw new Error('nothing was issued');
  expect(await revocation.revoke({ by: 'serial', serial, only: true }, 'superseded', 'uid:0')).toMatchObject({
    published: true,
  });
  await publisher.close();
  await authority.sequencer.close();
});
afterEach(() => authority.close());

function verify(pin?: string): LogVerification {
  const store = openSqliteStore(path.join(authority.folder, 'vouch.db'), { readonly: true });
  try {
    return verifyState(store, pin, () => undefined);
  } finally {
    void store.close();
  }
}

/** Changes the database as an intruder would, who is not stopped by triggers. */
function tamper(sql: string): void {
  const db = new Database(path.join(authority.folder, 'vouch.db'));
  const triggers = db
    .prepare<[], { name: string }>("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
    .all();
  for (const { name } of triggers) db.exec(`DROP TRIGGER ${name}`);
  db.pragma('foreign_keys = OFF');
  expect(db.prepare(sql).run().changes, sql).toBeGreaterThan(0);
  db.close();
}

test('a state that nobody touched has no problem', () => {
  const result = verify(rootPin(authority.rootDer));
  expect(result).toMatchObject({
    certificates: 2,
    revocations: 1,
    problems: [],
    treeSize: authority.store.treeSize(),
  });
  expect(result.rootHash).toBe(authority.tree.root().toString('hex'));
});

test('another root than the pinned one is a problem', () => {
  expect(verify(`sha256:${'0'.repeat(64)}`).problems).toEqual(['the root is not the one that was pinned']);
});

const someCertificate = '(SELECT max(leaf_index) FROM certificates)';
test.each([
  [
    'a byte of a leaf',
    `UPDATE leaves SET bytes = CAST(substr(bytes, 1, 40) || x'00' || substr(bytes, 42) AS BLOB) WHERE leaf_index = ${someCertificate}`,
  ],
  ['the hash of a leaf', `UPDATE leaves SET hash = zeroblob(32) WHERE leaf_index = 2`],
  ['the last leaf cut off', 'DELETE FROM leaves WHERE leaf_index = (SELECT max(leaf_index) FROM leaves)'],
  ['a certificate taken out', `DELETE FROM certificates WHERE leaf_index = ${someCertificate}`],
  [
    'the TBS of a certificate',
    `UPDATE certificates SET tbs = CAST(tbs || x'00' AS BLOB) WHERE leaf_index = ${someCertificate}`,
  ],
  [
    'the signature of a certificate',
    `UPDATE certificates SET signature = x'3006020101020101' WHERE leaf_index = ${someCertificate}`,
  ],
  [
    'the decision on a certificate',
    `UPDATE certificates SET decision = '{}' WHERE leaf_index = ${someCertificate}`,
  ],
  ['a revocation taken out', 'DELETE FROM revocations'],
  [
    'a revocation moved to another certificate',
    "UPDATE revocations SET serial = '2a0000000000000000000000000000aaaa'",
  ],
  ['the signature of a CRL', "UPDATE crls SET signature = x'3006020101020101' WHERE scope = 'full'"],
  ['a CRL', "UPDATE crls SET tbs = CAST(tbs || x'00' AS BLOB) WHERE scope = 'full'"],
  [
    'the checkpoint',
    "UPDATE marks SET checkpoint_note = replace(checkpoint_note, substr(checkpoint_note, 60, 1), '!')",
  ],
  ['the statement', "UPDATE statements SET jws = substr(jws, 1, length(jws) - 4) || 'AAAA'"],
])('what an intruder did is found: %s', (_what, sql) => {
  tamper(sql);
  expect(verify().problems).not.toEqual([]);
  expect(serials).toHaveLength(2);
});

test('a TBS that a crash left unsigned is no problem', () => {
  tamper(`UPDATE certificates SET signature = NULL WHERE leaf_index = ${someCertificate}`);
  expect(verify().problems).toEqual([]);
});
