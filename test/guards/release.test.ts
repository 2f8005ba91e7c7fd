// A release has every guard in it, and no way to leave one out.
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, globSync, readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { initAuthority } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';

const project = resolve(import.meta.dirname, '../..');
const invariants = Array.from({ length: 12 }, (_, at) => `I${at + 1}`);
/** Names by which somebody might hope to switch a guard off. */
const hopeful = {
  VOUCH_WITHOUT: 'I8',
  __VOUCH_WITHOUT__: 'I8',
  VOUCH_DIST: '/nonexistent',
  NODE_ENV: 'test',
};

/** Each source with its text. Maps of a bundle hold sources as they are written; nobody runs them. */
const sources = globSync('src/**/*.ts', { cwd: project }).map(
  (file) => [file, readFileSync(join(project, file), 'utf8')] as const,
);

describe('the sources', () => {
  test.each(invariants)('have a guard for %s', (invariant) => {
    const places = sources.filter(([, text]) =>
      new RegExp(`__VOUCH_WITHOUT__ [!=]== '${invariant}'`).test(text),
    );
    expect(places.map(([file]) => file)).not.toEqual([]);
  });

  test('ask for the flag in the one form that folds away', () => {
    const lines = sources
      .filter(([file]) => file !== 'src/core/build-flags.d.ts')
      .flatMap(([file, text]) => text.split('\n').map((line) => `${file}: ${line.trim()}`))
      .filter((line) => line.includes('VOUCH_WITHOUT'));
    expect(lines.length).toBeGreaterThanOrEqual(12);
    expect(
      lines.filter((line) => !/(?<![\w.'"[])__VOUCH_WITHOUT__ [!=]== 'I(?:[1-9]|1[0-2])'/.test(line)),
    ).toEqual([]);
    expect(lines.filter((line) => line.match(/VOUCH_WITHOUT/g)?.length !== 1)).toEqual([]);
  });
});

describe('the release', () => {
  test('has no trace of the flag in any file that runs', () => {
    const files = readdirSync(join(project, 'dist')).filter((name) => name.endsWith('.js'));
    expect(files.length).toBeGreaterThanOrEqual(6);
    for (const file of files)
      expect(readFileSync(join(project, 'dist', file), 'utf8'), file).not.toContain('VOUCH_WITHOUT');
  });

  test('is byte for byte the same whatever the environment of its build', () => {
    const released = hashesOf(join(project, 'dist'));
    expect(released.length).toBeGreaterThanOrEqual(6);
    expect(hashesOf(built(hopeful))).toEqual(released);
  });

  test('leaves no guard out by its own environment: a PIN file that others can read is refused all the same', async () => {
    const authority = await initAuthority();
    chmodSync(authority.tokens.online.pinFile, 0o640);
    for (const name of Object.keys(hopeful)) authority.configure(({ hsm }) => (hsm.environment[name] = 'I8'));
    const refused = await authority.refusal({ env: hopeful });
    expect([refused.code, refused.problem.code]).toEqual([78, 'config-secret-readable']);
  });
});

function built(env: NodeJS.ProcessEnv): string {
  const outdir = join(newFolder(), 'dist');
  const options = { cwd: project, env: { ...process.env, ...env } };
  execFileSync(process.execPath, ['scripts/build.mjs', '--outdir', outdir], options);
  return outdir;
}

function hashesOf(folder: string): string[] {
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.js'))
    .sort();
  return files.map(
    (name) =>
      `${name} ${createHash('sha256')
        .update(readFileSync(join(folder, name)))
        .digest('hex')}`,
  );
}
