import { connect } from './connection.ts';

/** A file that travels inside a backup, by its path below the state directory. */
export interface BackupFile {
  path: string;
  bytes: Buffer;
}

/** Puts files into a database copy, so that a backup is one file. Only for copies, never for a state in use. */
export function embedFiles(database: string, files: readonly BackupFile[]): void {
  const db = connect(database);
  try {
    db.exec('CREATE TABLE backup_files (path TEXT PRIMARY KEY, bytes BLOB NOT NULL) STRICT');
    const insert = db.prepare<[string, Buffer]>('INSERT INTO backup_files (path, bytes) VALUES (?, ?)');
    for (const { path, bytes } of files) insert.run(path, bytes);
  } finally {
    db.close();
  }
}

/** Takes the files out again and leaves the database as a state has it. A plain copy holds none. */
export function extractFiles(database: string): BackupFile[] {
  const db = connect(database);
  try {
    const holds = db.prepare<[]>("SELECT 1 FROM sqlite_schema WHERE name = 'backup_files'").get();
    if (holds === undefined) return [];
    const files = db.prepare<[], BackupFile>('SELECT path, bytes FROM backup_files').all();
    db.exec('DROP TABLE backup_files');
    return files;
  } finally {
    db.close();
  }
}
