import { cpSync, rmSync } from 'node:fs';
import http from 'node:http';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { readStateFiles } from '../../src/audit/state-files.ts';
import type { LogVerification } from '../../src/audit/verification.ts';
import { verifyState } from '../../src/audit/verify-state.ts';
import { openSqliteStore } from '../../src/store/sqlite/store.ts';
import type { Authority } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';

/** What the audited state holds, by the words that the tests use. */
export interface Known {
  /** Serials. */
  renewed: string;
  compromised: string;
  superseded: string;
  issuerKeyId: string;
  rootKeyId: string;
  /** Tokens and entries by id. */
  usedToken: string;
  usedEntry: string;
  revokedToken: string;
  unusedToken: string;
  unusedEntry: string;
  suspendedEntry: string;
  agentsEntry: string;
  deletedEntry: string;
}

/** Makes one of everything that a state can hold, and more than one full tile of leaves; the server is stopped then. */
export async function lived(authority: Authority): Promise<Known> {
  const verb = async (...args: string[]) => (await authority.vouch(...args)).json();
  const { path, tokenId: usedToken } = await authority.join(
    'orders',
    '--uses',
    '3',
    '--dns',
    'orders.test.example',
  );
  const dir = authority.path('w');
  await verb('enroll', '--join-file', path, '--out', dir);
  const compromised = await authority.enroll('bad');
  const superseded = await authority.enroll('gone', '--uses', '5');
  const { tokenId: revokedToken } = await authority.join('revoked', '--uses', '2');
  await verb('token', 'revoke', revokedToken);
  await verb('revoke', '--serial', compromised.serial, '--reason', 'keyCompromise');
  await verb('revoke', '--id', authority.id('gone'), '--reason', 'superseded', '--yes');
  const ofAgent = (name: string) =>
    verb(
      ...['entry', 'create', '--id', authority.id(name), '--parent', authority.id('host'), '--hint', name],
      ...['--selector', 'unix:uid:1000'],
    );
  const { entryId: agentsEntry } = await ofAgent('cache');
  const { entryId: deletedEntry } = await ofAgent('deleted');
  await verb('revoke', '--entry', String(agentsEntry), '--yes');
  await verb('entry', 'delete', String(deletedEntry), '--yes');
  const { serial: renewed } = (await verb('renew', '--dir', dir)) as { serial: string };
  const { tokenId: unusedToken } = await authority.join('unused', '--uses', '2', '--cidr', '10.0.0.0/8');
  await Promise.all(Array.from({ length: 240 }, (_, i) => createToken(authority, `many/${i}`)));
  await verb('crl', 'publish');
  await authority.server.end();
  return reading(authority.state, (db) => {
    const one = (sql: string, ...parameters: unknown[]): string =>
      db
        .prepare<unknown[], string>(sql)
        .pluck()
        .get(...parameters) ?? '';
    const entryOf = (token: string): string =>
      one('SELECT entry_id FROM entries NATURAL JOIN join_tokens WHERE token_id = ?', token);
    return {
      ...{ renewed, compromised: compromised.serial, superseded: superseded.serial },
      ...{ usedToken, revokedToken, unusedToken },
      usedEntry: entryOf(usedToken),
      unusedEntry: entryOf(unusedToken),
      suspendedEntry: one(
        'SELECT entry_id FROM entries WHERE suspended_at_ms IS NOT NULL AND parent_id IS NULL',
      ),
      ...{ agentsEntry: String(agentsEntry), deletedEntry: String(deletedEntry) },
      issuerKeyId: one("SELECT key_id FROM authorities WHERE kind = 'issuer'"),
      rootKeyId: one("SELECT key_id FROM authorities WHERE kind = 'root'"),
    };
  });
}

/** A token by the admin socket, without a process for it. */
export function createToken(authority: Authority, name: string): Promise<number> {
  const body = JSON.stringify({ spiffeId: authority.id(name) });
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  const socketPath = join(authority.state, 'admin.sock');
  return new Promise((resolve, reject) => {
    const request = http.request({ socketPath, method: 'POST', path: '/v1/tokens', headers }, (response) => {
      response.resume().on('end', () => resolve(response.statusCode ?? 0));
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** What `vouch log verify --state` says of a state directory. */
export function verified(state: string, pin?: string): LogVerification {
  const files = readStateFiles(state);
  const store = openSqliteStore(join(state, 'vouch.db'), { readonly: true });
  try {
    return verifyState(store, pin, () => undefined, files);
  } finally {
    void store.close();
  }
}

/** How an intruder changes a copy of a state: SQL, or whatever else. */
export type Tampering = string | ((db: Database.Database, state: string) => void);

let copies: string | undefined;

/** A copy of a state, changed as an intruder would, who is not stopped by triggers; the next one replaces it. */
export function tampered(state: string, how: Tampering): string {
  copies ??= newFolder();
  const copy = join(copies, 's');
  rmSync(copy, { recursive: true, force: true });
  cpSync(state, copy, { recursive: true });
  const db = new Database(join(copy, 'vouch.db'));
  const triggers = db.prepare<[], string>("SELECT name FROM sqlite_schema WHERE type = 'trigger'").pluck();
  db.pragma('synchronous = OFF');
  db.pragma('foreign_keys = OFF');
  db.exec(
    triggers
      .all()
      .map((name) => `DROP TRIGGER ${name};`)
      .join(''),
  );
  try {
    if (typeof how === 'function') how(db, copy);
    else if (db.prepare(how).run().changes === 0) throw new Error(`nothing changed: ${how}`);
  } finally {
    db.close();
  }
  return copy;
}

function reading<T>(state: string, read: (db: Database.Database) => T): T {
  const db = new Database(join(state, 'vouch.db'), { readonly: true });
  try {
    return read(db);
  } finally {
    db.close();
  }
}
