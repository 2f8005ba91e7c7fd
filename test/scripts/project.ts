import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { onTestFinished } from 'vitest';

/** A folder of its own with copies of `copies` from here, `files` (path to content) and our node_modules. */
export function makeProject(copies: readonly string[], files: Readonly<Record<string, string>>): string {
  const directory = mkdtempSync(join(tmpdir(), 'vouch-scripts-'));
  for (const file of copies) cpSync(file, join(directory, file), { recursive: true });
  symlinkSync(resolve('node_modules'), join(directory, 'node_modules'));
  writeFiles(directory, files);
  return directory;
}

/** The same, gone when the test ends. */
export function makeTestProject(copies: readonly string[], files: Readonly<Record<string, string>>): string {
  const directory = makeProject(copies, files);
  onTestFinished(() => rmSync(directory, { recursive: true }));
  return directory;
}

/** Writes `files` (path to content) below `directory`. */
export function writeFiles(directory: string, files: Readonly<Record<string, string>>): void {
  for (const [file, content] of Object.entries(files)) {
    mkdirSync(dirname(join(directory, file)), { recursive: true });
    writeFileSync(join(directory, file), content);
  }
}
