import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeTestProject, writeFiles } from './project.ts';

interface Machine {
  /** Commands that it lacks. */
  without?: string[];
  /** Commands with what they print, in place of its own. */
  fakes?: Record<string, string>;
}

interface SetUp {
  status: number | null;
  stdout: string;
  stderr: string;
  directory: string;
}

/** Runs scripts/setup on a machine like this one but for `machine`; it has to stop before it installs anything. */
function setUp(machine: Machine, ...args: string[]): SetUp {
  const directory = makeTestProject(['scripts/setup'], {});
  const path = join(directory, 'bin');
  mkdirSync(path);
  const fakes = { npm: 'exit 1', 'apt-get': 'exit 1', ...machine.fakes };
  const hidden = new Set([...(machine.without ?? []), ...Object.keys(fakes)]);
  for (const name of readdirSync('/usr/bin'))
    if (!hidden.has(name)) symlinkSync(join('/usr/bin', name), join(path, name));
  for (const [name, script] of Object.entries(fakes)) {
    if (machine.without?.includes(name)) continue;
    writeFiles(path, { [name]: `#!/bin/sh\n${script}\n` });
    chmodSync(join(path, name), 0o755);
  }
  const env = { ...process.env, PATH: path };
  const { status, stdout, stderr } = spawnSync(join(directory, 'scripts/setup'), args, {
    env,
    encoding: 'utf8',
  });
  return { status, stdout, stderr, directory };
}

const notRoot = { id: 'echo 1000' };
const policy = '/usr/sbin/policy-rc.d';

describe('scripts/setup stops with one line', () => {
  it('on another processor', () => {
    const fakes = { uname: '[ "$1" = -m ] && echo aarch64 || echo Linux' };
    const { status, stderr } = setUp({ fakes }, '--run');
    expect(status).toBe(78);
    expect(stderr).toBe(
      'setup: needs an x86-64 processor; this is aarch64, for which there is no build yet\n',
    );
  });

  it('on another system', () => {
    const { status, stderr } = setUp({ fakes: { uname: 'echo Darwin' } });
    expect(status).toBe(78);
    expect(stderr).toBe('setup: needs Linux; this is Darwin\n');
  });

  it('without npm', () => {
    const { status, stderr } = setUp({ without: ['npm'] });
    expect(status).toBe(78);
    expect(stderr).toMatch(/^setup: needs npm .+\n$/);
  });

  it('without root, naming the packages that tests need', () => {
    const { status, stdout, stderr } = setUp({
      without: ['softhsm2-util', 'strace', 'certutil', 'go'],
      fakes: notRoot,
    });
    expect(status).toBe(78);
    expect(stdout).toBe('');
    expect(stderr).toBe(
      'setup: lacks Debian packages; as root: apt-get install softhsm2 libnss3-tools strace golang-go\n',
    );
  });

  it('without root, naming only what running needs with --run', () => {
    const { status, stderr } = setUp({ without: ['softhsm2-util', 'strace', 'go'], fakes: notRoot }, '--run');
    expect(status).toBe(78);
    expect(stderr).toBe('setup: lacks Debian packages; as root: apt-get install softhsm2\n');
  });

  it('where there is no apt-get', () => {
    const { status, stderr } = setUp({ without: ['softhsm2-util', 'apt-get'] }, '--run');
    expect(status).toBe(78);
    expect(stderr).toMatch(/^setup: needs .+ softhsm2\n$/);
  });

  it.each([[['--rnu']], [['--run', 'x']], [['']]])('on %j, with the usage', (args) => {
    const { status, stderr } = setUp({}, ...args);
    expect(status).toBe(2);
    expect(stderr).toBe('usage: scripts/setup [--run]\n');
  });
});

describe('scripts/setup', () => {
  it('names what it will install first, forbids services meanwhile, and shows why it failed', () => {
    const before = existsSync(policy);
    const fakes = {
      id: 'echo 0',
      'apt-get': `echo "apt-get $*"; [ -x ${policy} ] && ${policy}; echo "policy $?"; exit 7`,
    };
    const { status, stdout, stderr, directory } = setUp({ without: ['softhsm2-util'], fakes }, '--run');
    expect(stdout).toMatch(/^setup: will install these Debian packages: softhsm2\n/);
    expect(stdout).toContain('failed');
    expect(stderr).toContain('policy 101');
    expect(stderr).toContain('setup: Debian packages failed (exit 7)');
    expect(status).toBe(7);
    expect(existsSync(policy)).toBe(before);
    expect(readdirSync(directory).sort()).toEqual(['bin', 'node_modules', 'scripts']);
  });
});
