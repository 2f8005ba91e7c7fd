import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../../core/clock.ts';
import { VouchError } from '../../core/errors.ts';
import { copyDatabase } from './backup.ts';
import type { Connection } from './connection.ts';
import { connect } from './connection.ts';
import { storeFailure } from './failure.ts';

/** One SQL file, `NNNN_name.sql`; its checksum is kept in the database that it was applied to. */
export interface Migration {
  version: number;
  name: string;
  sql: string;
  /** Hex of the file's SHA-256. */
  sha256: string;
}

/** What `vouch migrate` did. `backup` names the copy made before; undefined where there was nothing to do. */
export interface MigrationReport {
  fromVersion: number;
  toVersion: number;
  applied: string[];
  backup: string | undefined;
}

/** Where the SQL files lie: beside a bundle in dist/, or at the top of a checkout. */
const candidates = ['../migrations/sqlite', '../../../migrations/sqlite'];

/** The directory of SQL files of this program. Throws `config-schema` where the installation lacks it. */
export function defaultMigrations(): string {
  const paths = candidates.map((candidate) => fileURLToPath(new URL(candidate, import.meta.url)));
  const found = paths.find((path) => existsSync(path));
  if (found === undefined)
    throw new VouchError(
      'config-schema',
      `the program's SQL files are missing (looked in ${paths.join(', ')}): install Vouch again`,
    );
  return found;
}

/** Reads a directory of migrations, in order. Throws `config-schema` for a gap, a duplicate or a misnamed file. */
export function readMigrations(directory: string): Migration[] {
  const files = readdirSync(directory).filter((file) => file.endsWith('.sql'));
  return files.sort().map((name, position) => {
    const version = Number(/^(\d{4})_[a-z0-9_]+\.sql$/.exec(name)?.[1]);
    if (version !== position + 1)
      throw new VouchError(
        'config-schema',
        `${join(directory, name)}: SQL files must be named NNNN_name.sql, from 0001 on without gap`,
      );
    const sql = readFileSync(join(directory, name));
    return {
      version,
      name,
      sql: sql.toString('utf8'),
      sha256: createHash('sha256').update(sql).digest('hex'),
    };
  });
}

/**
 * Brings a database to this program's schema, all pending files in one transaction, after a copy beside it. The caller
 * holds the state's lock. Throws `config-schema`, `config-state`; then the database is as it was.
 */
export async function migrate(file: string, options: { migrations?: string } = {}): Promise<MigrationReport> {
  const known = readMigrations(options.migrations ?? defaultMigrations());
  const db = connect(file);
  try {
    const pending = pendingMigrations(db, known);
    const report = {
      fromVersion: known.length - pending.length,
      toVersion: known.length,
      applied: pending.map(({ name }) => name),
    };
    if (pending.length === 0) return { ...report, backup: undefined };
    const backup = unusedName(`${file}.schema-${String(report.fromVersion).padStart(4, '0')}`);
    await copyDatabase(db, backup);
    applyToExisting(db, pending, backup);
    return { ...report, backup };
  } finally {
    db.close();
  }
}

/** Refuses a database whose schema is not exactly this program's (I10). Throws `config-schema`, saying what to run. */
export function requireCurrentSchema(db: Connection, directory: string): void {
  const pending = pendingMigrations(db, readMigrations(directory));
  if (pending.length > 0)
    throw new VouchError(
      'config-schema',
      `the database's schema is older than this program: run vouch migrate (${pending.length} to apply)`,
    );
}

/** Applies SQL files inside the caller's transaction and notes their checksums. */
export function applyMigrations(db: Connection, migrations: readonly Migration[]): void {
  for (const { version, name, sql, sha256 } of migrations) {
    db.exec(sql);
    if (!db.inTransaction)
      throw new VouchError('config-schema', `${name} must not end the transaction that it runs in`);
    db.prepare(
      'INSERT INTO schema_migrations (version, name, sha256, applied_at_ms) VALUES (?, ?, ?, ?)',
    ).run(version, name, sha256, systemClock.now());
  }
}

function applyToExisting(db: Connection, pending: readonly Migration[], backup: string): void {
  // SQLite's way to rebuild a table needs references unchecked until the end, and takes the setting only outside a
  // transaction.
  db.pragma('foreign_keys = OFF');
  try {
    db.exec('BEGIN IMMEDIATE');
    applyMigrations(db, pending);
    if ((db.pragma('foreign_key_check') as unknown[]).length > 0)
      throw new VouchError('config-schema', 'the migrated rows refer to rows that do not exist');
    db.exec('COMMIT');
  } catch (error) {
    if (db.inTransaction) db.exec('ROLLBACK');
    throw new VouchError('config-schema', `migration failed, the database is as it was (copy: ${backup})`, {
      cause: storeFailure(error),
    });
  }
}

/** What this program knows and the database lacks; what was applied must be a prefix of it, byte for byte. */
function pendingMigrations(db: Connection, known: readonly Migration[]): Migration[] {
  const applied = db
    .prepare<[], { version: number; name: string; sha256: string }>(
      'SELECT version, name, sha256 FROM schema_migrations ORDER BY version',
    )
    .all();
  if (applied.length > known.length)
    throw new VouchError(
      'config-schema',
      `the database's schema (${applied.length}) is newer than this program's (${known.length}): install the Vouch that wrote it, or a later one`,
    );
  for (const [position, row] of applied.entries()) {
    const migration = known[position];
    if (migration === undefined || row.version !== migration.version || row.sha256 !== migration.sha256)
      throw new VouchError(
        'config-schema',
        `${row.name} was applied to this database with another content than ${migration?.name ?? 'none'} has now: install the Vouch that wrote it`,
      );
  }
  return known.slice(applied.length);
}

function unusedName(stem: string): string {
  let name = `${stem}.bak`;
  for (let number = 2; existsSync(name); number += 1) name = `${stem}.${number}.bak`;
  return name;
}
