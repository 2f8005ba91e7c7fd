import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeTestProject, writeFiles } from './project.ts';

const program = `import { readFileSync } from 'node:fs';
const core = /^Max core file size +(\\S+) +(\\S+)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
console.log(JSON.stringify({ args: process.argv.slice(2), node: process.versions.node, core: core.slice(1) }));
`;

interface Launched {
  status: number | null;
  stdout: string;
  stderr: string;
}

function checkout(): string {
  return makeTestProject(['scripts/vouch'], { 'dist/vouch.js': program });
}

function launch(command: string, args: string[], options: { cwd: string; path?: string }): Launched {
  const env = { ...process.env, PATH: options.path ?? process.env.PATH };
  const { status, stdout, stderr } = spawnSync(command, args, { cwd: options.cwd, env, encoding: 'utf8' });
  return { status, stdout, stderr };
}

/** A `node` that says it is of that version, and `ran` when it is asked to run something. */
function fakeNode(directory: string, version: string): string {
  const folder = join(directory, `node-${version}`);
  writeFiles(folder, { node: `#!/bin/sh\nif [ "$1" = -p ]; then echo ${version}; else echo ran; fi\n` });
  chmodSync(join(folder, 'node'), 0o755);
  return `${folder}:/usr/bin:/bin`;
}

describe('scripts/vouch', () => {
  it('hands every argument over as it is, under our Node, without core dumps', () => {
    const directory = checkout();
    const { stdout } = launch(join(directory, 'scripts/vouch'), ['a b', '', '*', '--json'], { cwd: '/' });
    expect(JSON.parse(stdout)).toEqual({
      args: ['a b', '', '*', '--json'],
      node: process.versions.node,
      core: ['0', '0'],
    });
  });

  it('finds its checkout from its own folder, by PATH, and through links to links', () => {
    const directory = checkout();
    symlinkSync(join(directory, 'scripts/vouch'), join(directory, 'first'));
    symlinkSync('first', join(directory, 'second'));
    mkdirSync(join(directory, 'with space'));
    symlinkSync(directory, join(directory, 'with space/checkout'));
    const ways = [
      launch('./vouch', ['1'], { cwd: join(directory, 'scripts') }),
      launch('sh', ['vouch', '1'], { cwd: join(directory, 'scripts') }),
      launch('sh', ['-c', 'vouch 1'], { cwd: '/', path: `${directory}/scripts:/usr/bin:/bin` }),
      launch(join(directory, 'second'), ['1'], { cwd: '/' }),
      launch('with space/checkout/scripts/vouch', ['1'], { cwd: directory }),
    ];
    for (const { stdout, stderr } of ways) expect(`${stdout}${stderr}`).toContain('"args":["1"]');
  });

  it.each(['20.20.2', '22.18.9', '8.0.0'])('refuses Node %s with one line', (version) => {
    const directory = checkout();
    rmSync(join(directory, 'node_modules'));
    const path = fakeNode(directory, version);
    const { status, stdout, stderr } = launch(join(directory, 'scripts/vouch'), [], { cwd: '/', path });
    expect(status).toBe(78);
    expect(stdout).toBe('');
    expect(stderr).toMatch(/^vouch: needs Node 22\.19 or newer, found [\d.]+; scripts\/setup .+\n$/);
    expect(stderr).toContain(version);
  });

  it.each(['22.19.0', '23.0.0', '24.21.0', '100.1.0'])(
    'takes Node %s from PATH where it has none of its own',
    (version) => {
      const directory = checkout();
      rmSync(join(directory, 'node_modules'));
      const path = fakeNode(directory, version);
      expect(launch(join(directory, 'scripts/vouch'), [], { cwd: '/', path }).stdout).toBe('ran\n');
    },
  );

  it('says what to run where nothing is built', () => {
    const directory = checkout();
    rmSync(join(directory, 'dist'), { recursive: true });
    const { status, stderr } = launch(join(directory, 'scripts/vouch'), [], { cwd: '/' });
    expect(status).toBe(78);
    expect(stderr).toBe('vouch: is not built yet; run scripts/setup first\n');
  });
});
