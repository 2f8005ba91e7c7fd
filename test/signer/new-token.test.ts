import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { HsmConfig } from '../../src/signer/hsm.ts';
import { HsmToken } from '../../src/signer/pkcs11/token.ts';
import { temporaryFolder } from '../support/hsm.ts';

const program = resolve(import.meta.dirname, '../../hsm-sim/new-token');

function newToken(args: string[], env: NodeJS.ProcessEnv = process.env) {
  return spawnSync(program, args, { encoding: 'utf8', env });
}

/** A PATH with only these programs, each at its usual place. */
function pathWith(...programs: string[]): NodeJS.ProcessEnv {
  const folder = temporaryFolder('path');
  for (const name of programs) {
    const at = execFileSync('/bin/sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    symlinkSync(name === 'node' ? process.execPath : at, join(folder, name));
  }
  return { PATH: folder };
}

describe('hsm-sim/new-token', () => {
  it('makes a token that its PIN opens, and prints where it is', () => {
    const dir = join(temporaryFolder('new'), 'deep/token');
    const { stdout, stderr, status } = newToken(['--dir', dir, '--label', 'vouch-1', '--json']);
    expect({ stderr, status }).toEqual({ stderr: '', status: 0 });
    const made = JSON.parse(stdout) as HsmConfig;
    expect(Object.keys(made)).toEqual(['module', 'tokenLabel', 'tokenSerial', 'pinFile', 'environment']);
    expect(made).toMatchObject({
      tokenLabel: 'vouch-1',
      pinFile: join(dir, 'pin'),
      environment: { SOFTHSM2_CONF: join(dir, 'softhsm2.conf') },
    });
    expect(made.tokenSerial).toMatch(/^[0-9a-f]{16}$/);
    process.env.SOFTHSM2_CONF = made.environment.SOFTHSM2_CONF;
    const token = HsmToken.open(made, { readWrite: false });
    token.login(made.pinFile, join(dir, 'pin-refused'));
  });

  it('keeps PIN and token from others, and the PIN out of what it prints', () => {
    const dir = join(temporaryFolder('new'), 'token');
    const { stdout } = newToken(['--dir', dir, '--label', 't', '--json']);
    const pin = readFileSync(join(dir, 'pin'), 'utf8');
    expect(pin).toMatch(/^[0-9a-f]{32}\n$/);
    expect(stdout).not.toContain(pin.trim());
    for (const [name, mode] of [
      ['.', 0o700],
      ['tokens', 0o700],
      ['pin', 0o600],
      ['softhsm2.conf', 0o600],
    ] as const)
      expect(statSync(join(dir, name)).mode & 0o777).toBe(mode);
    const other = join(temporaryFolder('new'), 'token');
    newToken(['--dir', other, '--label', 't', '--json']);
    expect(readFileSync(join(other, 'pin'), 'utf8')).not.toBe(pin);
  });

  it('shows no PIN in any command line while it runs (I8)', () => {
    const folder = temporaryFolder('new');
    const dir = join(folder, 'token');
    const traced = spawnSync(
      'strace',
      [
        '-f',
        '-s',
        '4096',
        '-e',
        'trace=execve',
        '-o',
        join(folder, 'trace'),
        program,
        '--dir',
        dir,
        '--label',
        't',
      ],
      { encoding: 'utf8' },
    );
    expect(traced.status).toBe(0);
    const trace = readFileSync(join(folder, 'trace'), 'utf8');
    expect(trace).toContain('softhsm2-util');
    expect(trace).not.toContain(readFileSync(join(dir, 'pin'), 'utf8').trim());
    expect(trace).not.toMatch(/"--(so-)?pin/);
  });

  it('prints the same as YAML for the configuration', () => {
    const dir = join(temporaryFolder('new'), 'a "quoted" folder');
    const { stdout } = newToken(['--dir', dir, '--label', 'online']);
    expect(parse(stdout)).toMatchObject({
      hsm: {
        tokenLabel: 'online',
        pinFile: join(dir, 'pin'),
        environment: { SOFTHSM2_CONF: join(dir, 'softhsm2.conf') },
      },
    });
  });

  it('with --shim prints the same keys, for the module that misbehaves and with all that it reads', () => {
    const dir = join(temporaryFolder('new'), 'token');
    const { stdout, stderr } = newToken(['--dir', dir, '--label', 'sim', '--shim', '--json']);
    expect(stderr).toBe('');
    const made = JSON.parse(stdout) as HsmConfig;
    expect(Object.keys(made)).toEqual(['module', 'tokenLabel', 'tokenSerial', 'pinFile', 'environment']);
    expect(made.module).toBe(resolve(program, '../shim/build/libhsmsim.so'));
    expect(made.environment).toEqual({
      SOFTHSM2_CONF: join(dir, 'softhsm2.conf'),
      HSM_SIM_MODULE: expect.stringMatching(/libsofthsm2\.so$/) as unknown,
      HSM_SIM_CONTROL: join(dir, 'control'),
      HSM_SIM_LOG: join(dir, 'signatures.jsonl'),
    });
    expect(readdirSync(dir).sort()).toEqual(['pin', 'softhsm2.conf', 'tokens']);
    const yaml = newToken(['--dir', `${dir}-yaml`, '--label', 'sim', '--shim']).stdout;
    expect(parse(yaml)).toMatchObject({
      hsm: { environment: { HSM_SIM_CONTROL: join(`${dir}-yaml`, 'control') } },
    });
  });

  it('begins with a profile, and knows which there are', () => {
    const dir = join(temporaryFolder('new'), 'token');
    const { status } = newToken(['--dir', dir, '--label', 'usb', '--shim', '--profile', 'luna-7']);
    expect(status).toBe(0);
    expect(readFileSync(join(dir, 'control'), 'utf8')).toMatch(/^C_Sign delay=/m);
    const unknown = newToken(['--dir', `${dir}-2`, '--label', 'x', '--shim', '--profile', '../luna-7']);
    expect(unknown).toMatchObject({ status: 2, stdout: '' });
    expect(unknown.stderr).toContain('aws-cloudhsm, luna-7, yubihsm-2');
    expect(newToken(['--dir', `${dir}-2`, '--label', 'x', '--profile', 'luna-7']).status).toBe(2);
    expect(newToken(['--dir', `${dir}-2`, '--label', 'x', '--shim']).status).toBe(0);
  });

  it('makes a second token only in another folder', () => {
    const dir = join(temporaryFolder('new'), 'token');
    expect(newToken(['--dir', dir, '--label', 'a']).status).toBe(0);
    const before = readFileSync(join(dir, 'pin'), 'utf8');
    const { status, stderr } = newToken(['--dir', dir, '--label', 'b']);
    expect(status).toBe(1);
    expect(stderr).toMatch(/already holds a token/);
    expect(readFileSync(join(dir, 'pin'), 'utf8')).toBe(before);
  });

  it('leaves other files of the folder alone', () => {
    const dir = temporaryFolder('new');
    writeFileSync(join(dir, 'mine'), 'mine');
    expect(newToken(['--dir', dir, '--label', 'a']).status).toBe(0);
    expect(readFileSync(join(dir, 'mine'), 'utf8')).toBe('mine');
  });

  it('refuses labels that a shell or SoftHSM would read otherwise, with exit 2', () => {
    for (const label of ['', 'a b', '$(id)', '-x', 'ä', 'x'.repeat(33), 'a;b', 'a\nb'])
      expect(newToken(['--dir', '/nowhere', '--label', label]).status).toBe(2);
    for (const args of [
      [],
      ['--dir', '/tmp/x'],
      ['--label', 'x'],
      ['--wrong'],
      ['--dir', '/tmp/x', '--label', 'x', 'extra'],
    ])
      expect(newToken(args)).toMatchObject({ status: 2, stdout: '' });
  });

  it('says what it is for with --help, exit 0', () => {
    const { status, stdout, stderr } = newToken(['--help']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/^usage: hsm-sim\/new-token --dir DIR --label LABEL/);
    expect(stdout).toMatch(/--json .*tokenSerial/);
  });

  it('with --json refuses with a problem', () => {
    const dir = temporaryFolder('new');
    writeFileSync(join(dir, 'pin'), 'mine');
    for (const [args, status, code] of [
      [['--dir', dir, '--label', 'a'], 1, 'config-hsm'],
      [['--dir', dir], 2, 'usage-invalid'],
      [['--dir', dir, '--label', 'a b'], 2, 'usage-invalid'],
      [['--wrong'], 2, 'usage-invalid'],
    ] as const) {
      const ran = newToken([...args, '--json']);
      expect(ran).toMatchObject({ status, stdout: '' });
      expect(JSON.parse(ran.stderr)).toMatchObject({
        type: `urn:vouch:problem:${code}`,
        title: expect.any(String) as unknown,
        status: expect.any(Number) as unknown,
        code,
        detail: expect.any(String) as unknown,
      });
    }
  });

  it('names what is missing, in one line', () => {
    const dir = temporaryFolder('new');
    const basics = ['sh', 'readlink', 'dirname'];
    const without = (...programs: string[]) =>
      newToken(['--dir', join(dir, 'x'), '--label', 'x'], pathWith(...basics, ...programs));
    expect(without('node', 'script').stderr).toMatch(
      /^new-token: SoftHSM is missing; install Debian's package softhsm2[^\n]*\n$/,
    );
    expect(without('node', 'softhsm2-util').stderr).toMatch(
      /^new-token: script\(1\) is missing[^\n]*bsdutils\n$/,
    );
    expect(without().stderr).toMatch(/^new-token: node is missing[^\n]*\n$/);
    expect(readdirSync(dir)).toEqual([]);
  });

  it('leaves nothing where the token could not be made', () => {
    const folder = temporaryFolder('new');
    const fakes = join(folder, 'bin');
    mkdirSync(fakes);
    writeFileSync(join(fakes, 'softhsm2-util'), '#!/bin/sh\necho ERROR: no space left >&2\nexit 1\n', {
      mode: 0o755,
    });
    const dir = join(folder, 'token');
    const { status, stderr } = newToken(['--dir', dir, '--label', 'x'], {
      PATH: `${fakes}:${process.env.PATH}`,
    });
    expect(status).toBe(1);
    expect(stderr).toMatch(/could not make the token: ERROR: no space left/);
    expect(readdirSync(dir)).toEqual([]);
    expect(newToken(['--dir', dir, '--label', 'x']).status).toBe(0);
  });
});
