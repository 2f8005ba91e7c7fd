import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { Connection } from '../../../src/store/sqlite/connection.ts';
import { connect, enterWal } from '../../../src/store/sqlite/connection.ts';
import { prepareReads } from '../../../src/store/sqlite/read-statements.ts';
import { createSqliteStore, SqliteStore } from '../../../src/store/sqlite/store.ts';
import {
  identity,
  issuerKeyId,
  nothingSigned,
  redemption,
  renewal,
  revocationMutation,
  startMs,
  tokenMutation,
} from '../fixture.ts';
import { temporaryDirectory } from './state.ts';

let directory: ReturnType<typeof temporaryDirectory>;
let db: Connection;

beforeEach(async () => {
  directory = temporaryDirectory();
  const file = join(directory.path, 'vouch.db');
  await createSqliteStore(file, identity).close();
  db = connect(file);
  enterWal(db);
});
afterEach(() => {
  db.close();
  directory.remove();
});

/** Read whole on purpose: one row, a handful, or everything is wanted. */
const scanned = [
  /^SCAN (state_identity|marks|authorities|statements|cross_certificates|jwt_keys|crl_scopes|json_each|found|CONSTANT ROW)/,
  /^SCAN (crls|revocations)$/,
  /^SCAN mass_revocations USING INDEX mass_revocations_unfinished$/,
];

describe('query plans', () => {
  it('look everything up by a key', () => {
    const sources = preparedBy(db);
    expect(sources.length).toBeGreaterThan(50);
    for (const source of sources) {
      const scans = planOf(source).filter(
        (detail) => detail.startsWith('SCAN') && !scanned.some((allowed) => allowed.test(detail)),
      );
      expect(scans, source).toEqual([]);
    }
  });

  it('read all CRLs and revocations only where all are asked for', () => {
    const whole = preparedBy(db).filter((source) =>
      planOf(source).some((detail) => /^SCAN (crls|revocations)$/.test(detail)),
    );
    expect(whole).toEqual([expect.stringMatching(/FROM crls ORDER BY leaf_index$/)]);
  });
});

describe('hot reads', () => {
  it('are prepared once, not again at each run', async () => {
    const store = new SqliteStore(db, prepareReads(db), false);
    const token = tokenMutation();
    const first = redemption(token);
    const revoked = renewal(first);
    await store.commitBatch([token, first, revoked, revocationMutation(revoked.certificate)], nothingSigned);
    const { serial, lineage, spiffeId, spkiSha256 } = first.certificate;
    const { tokenId, entryId } = token.token;
    const reads = [
      () => store.certificate(issuerKeyId, serial),
      () => store.certificatesBySerial(serial)[0],
      () => store.entry(entryId),
      () => store.entriesMatching([`join_token:${entryId}`])[0],
      () => store.token(tokenId),
      () => store.tokenBySecret(token.secretSha256),
      () => store.certificateOfTokenUse(tokenId, spkiSha256),
      () => store.revocation(issuerKeyId, revoked.certificate.serial),
      ...[{ lineage }, { spiffeId }, { tokenId }, { entryId }, { spkiSha256 }].map(
        (by) => () => store.unexpiredCertificates(by, startMs)[0],
      ),
    ];
    for (const read of reads) expect(read()).toBeDefined();
    const again = rowShapesMade(() => {
      for (const read of reads) for (let run = 0; run < 3; run += 1) read();
    });
    expect(again).toBe(0);
    const control = db.prepare(
      'SELECT entry_number FROM entries WHERE entry_number > ? ORDER BY entry_number LIMIT ?',
    );
    control.get(0, 1);
    expect(
      rowShapesMade(() => control.get(0, 1)),
      'the measure works: this one is prepared again',
    ).toBe(1);
  });
});

/** All SQL that a store prepares. */
function preparedBy(connection: Connection): string[] {
  const sources: string[] = [];
  const prepare = connection.prepare.bind(connection);
  connection.prepare = (source: string) => {
    sources.push(source);
    return prepare(source);
  };
  new SqliteStore(connection, prepareReads(connection), false);
  connection.prepare = prepare;
  return sources.filter((source) => /^\s*(SELECT|INSERT|UPDATE|DELETE)/.test(source));
}

function planOf(source: string): string[] {
  const named = Object.fromEntries(Array.from(source.matchAll(/@(\w+)/g), ([, name = '']) => [name, 0]));
  const positional: unknown[] = Array.from(source.matchAll(/\?/g), () => 0);
  const parameters = Object.keys(named).length > 0 ? [...positional, named] : positional;
  return db
    .prepare<unknown[], { detail: string }>(`EXPLAIN QUERY PLAN ${source}`)
    .all(...parameters)
    .map(({ detail }) => detail);
}

/** better-sqlite3 makes the shape of a statement's rows, by `Function`, anew after SQLite prepared it again. */
function rowShapesMade(run: () => void): number {
  const original = globalThis.Function;
  let made = 0;
  globalThis.Function = new Proxy(original, {
    apply: (target, thisArgument, parameters) => {
      made += 1;
      return Reflect.apply(target, thisArgument, parameters) as unknown;
    },
  });
  try {
    run();
  } finally {
    globalThis.Function = original;
  }
  return made;
}
