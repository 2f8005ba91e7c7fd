import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { loadProgram } from '../../src/program.ts';
import { makeTestProject, writeFiles } from './project.ts';

const copies = [
  'package.json',
  'package-lock.json',
  'tsconfig.json',
  'tsconfig.types.json',
  'scripts/build.mjs',
  'scripts/build-native',
  'src/native',
  'src/program.ts',
];

const guarded = `export function open(isRight: boolean): void {
  if (__VOUCH_WITHOUT__ !== 'I3' && !isRight) throw new Error('the guard stands');
}
`;

/** Every entry, as small as it can be; the agent has the guard of I3. */
const entries = {
  'src/main.ts': `for (const name of ['full', 'agent']) await import(new URL(\`./vouch-\${name}.js\`, import.meta.url).href);\nif (process.argv.length > 9) await import('./vouch-signer.js');\n`,
  'src/agent-daemon.ts':
    'export const isStrict = (function (this: unknown) { return this; })() === undefined;\n',
  'src/agent.ts': `import { open } from './guarded.ts';\n\nopen(true);\nconsole.log('agent', __VOUCH_VERSION__, open.length);\n`,
  'src/guarded.ts': guarded,
  'src/cli/main.ts': `import Database from 'better-sqlite3';\n\nconsole.log(typeof Database);\n`,
  'src/signer.ts': `console.log('signer');\n`,
  'src/signer/pkcs11/worker.ts': `import pkcs11 from 'pkcs11js';\n\nconsole.log(typeof pkcs11.PKCS11);\n`,
  'src/config/yaml.ts': 'export const parse = JSON.parse;\n',
  'src/client/main.ts': `export const client = 1;\n`,
};

interface Built {
  status: number | null;
  stderr: string;
}

function build(directory: string, ...args: string[]): Built {
  const run = spawnSync(process.execPath, ['scripts/build.mjs', ...args], {
    cwd: directory,
    encoding: 'utf8',
  });
  return { status: run.status, stderr: run.stderr };
}

function run(directory: string, file: string): string {
  return spawnSync(process.execPath, [file], { cwd: directory, encoding: 'utf8' }).stdout;
}

describe('scripts/build.mjs', () => {
  it('makes every bundle, the addon, maps and types, with the guards folded', () => {
    const directory = makeTestProject(copies, entries);
    expect(build(directory)).toEqual({ status: 0, stderr: '' });
    const names = ['client', 'pkcs11-worker', 'vouch', 'vouch-agent', 'vouch-full', 'vouch-signer'];
    const files = names.flatMap((name) => [`${name}.js`, `${name}.js.map`]);
    const cjs = ['vouch-agentd', 'vouch-yaml'].flatMap((name) => [`${name}.cjs`, `${name}.cjs.map`]);
    const daemon = [...cjs, 'vouch-agentd.cache'];
    expect(readdirSync(join(directory, 'dist')).sort()).toEqual(
      ['.built', ...files, ...daemon, 'native', 'types'].sort(),
    );
    const isStrict = loadProgram<{ isStrict: boolean }>(join(directory, 'dist/vouch-agentd.cjs'));
    expect(isStrict).toMatchObject({ isStrict: true });
    expect(readFileSync(join(directory, 'dist/types/client/main.d.ts'), 'utf8')).toContain('const client');
    expect(readdirSync(join(directory, 'dist/native'))).toEqual(['linux.node']);
    const agent = readFileSync(join(directory, 'dist/vouch-agent.js'), 'utf8');
    expect(agent).toContain('if (!isRight) throw');
    expect(agent).not.toMatch(/__VOUCH_WITHOUT__|"I3"/);
    expect(statSync(join(directory, 'dist/vouch.js')).mode & 0o111).toBe(0o111);
    expect(readFileSync(join(directory, 'dist/vouch.js'), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
    expect(run(directory, 'dist/vouch.js')).toMatch(/^function\nagent \d+\.\d+\.\d+ 1\n$/);
    expect(run(directory, 'dist/pkcs11-worker.js')).toBe('function\n');
  });

  it('leaves out the guard of one invariant elsewhere, and dist/ alone', () => {
    const directory = makeTestProject(copies, entries);
    expect(build(directory, '--without', 'I3', '--outdir', 'mutant')).toEqual({ status: 0, stderr: '' });
    expect(readFileSync(join(directory, 'mutant/vouch-agent.js'), 'utf8')).not.toContain('the guard stands');
    expect(existsSync(join(directory, 'mutant/native/linux.node'))).toBe(true);
    expect(existsSync(join(directory, 'dist'))).toBe(false);
  });

  it.each([
    [['--without', 'I3'], 'never goes into dist/'],
    [['--without', 'I3', '--outdir', 'dist'], 'never goes into dist/'],
    [['--without', 'I3', '--outdir', './dist/deep/er'], 'never goes into dist/'],
    [['--without', 'I13', '--outdir', 'mutant'], 'I1 to I12'],
    [['--without', 'I3 ', '--outdir', 'mutant'], 'I1 to I12'],
    [['--if-changed', '--outdir', 'mutant'], '--if-changed is for dist/'],
    [['--wihtout', 'I3'], 'usage: build.mjs'],
  ])('refuses %j as usage', (args, why) => {
    const directory = makeTestProject(copies, entries);
    const { status, stderr } = build(directory, ...args);
    expect(status).toBe(2);
    expect(stderr).toContain(why);
    expect(existsSync(join(directory, 'dist'))).toBe(false);
    expect(existsSync(join(directory, 'mutant'))).toBe(false);
  });

  it('refuses to leave out a guard that no source has', () => {
    const directory = makeTestProject(copies, entries);
    const { status, stderr } = build(directory, '--without', 'I4', '--outdir', 'mutant');
    expect(status).toBe(1);
    expect(stderr).toContain("no source has a guard __VOUCH_WITHOUT__ !== 'I4'");
  });

  it('refuses a guard that did not fold', () => {
    const unfolded = `export const name = (globalThis as Record<string, unknown>)['__VOUCH_WITHOUT__'];\n`;
    const directory = makeTestProject(copies, { ...entries, 'src/client/main.ts': unfolded });
    const { status, stderr } = build(directory);
    expect(status).toBe(1);
    expect(stderr).toContain('client.js still has __VOUCH_WITHOUT__');
    expect(existsSync(join(directory, 'dist'))).toBe(false);
  });

  it('refuses an agent that needs a native package', () => {
    const directory = makeTestProject(copies, { ...entries, 'src/agent.ts': entries['src/cli/main.ts'] });
    const { status, stderr } = build(directory);
    expect(status).toBe(1);
    expect(stderr).toContain('vouch-agent.js would load better-sqlite3 at run time');
  });

  it('names the entries that are missing, and does without them only when told', () => {
    const { 'src/signer.ts': _signer, 'src/client/main.ts': _client, ...rest } = entries;
    const directory = makeTestProject(copies, rest);
    const { status, stderr } = build(directory);
    expect(status).toBe(1);
    expect(stderr).toContain('no src/signer.ts, src/client/main.ts');
    expect(build(directory, '--partial').status).toBe(0);
    expect(existsSync(join(directory, 'dist/vouch-agent.js'))).toBe(true);
    expect(build(directory, '--if-changed').status).toBe(1);
  });

  it('builds with --if-changed only after a source was changed or deleted', () => {
    const directory = makeTestProject(copies, { ...entries, 'src/extra.ts': 'export {};\n' });
    const builtMs = (): number => statSync(join(directory, 'dist/client.js')).mtimeMs;
    expect(build(directory).status).toBe(0);
    const first = builtMs();
    expect(build(directory, '--if-changed').status).toBe(0);
    expect(builtMs()).toBe(first);
    writeFiles(directory, { 'src/guarded.ts': guarded });
    expect(build(directory, '--if-changed').status).toBe(0);
    const second = builtMs();
    expect(second).toBeGreaterThan(first);
    rmSync(join(directory, 'src/extra.ts'));
    expect(build(directory, '--if-changed').status).toBe(0);
    expect(builtMs()).toBeGreaterThan(second);
  });
});
