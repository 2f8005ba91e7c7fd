import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { expect, it } from 'vitest';
import { initAuthority } from '../support/daemon.ts';
import { newFolder } from '../support/running.ts';
import { give, Stage, unusedUids } from '../support/users.ts';

const project = resolve(import.meta.dirname, '../..');
const folder = join(project, 'deploy/systemd');
const units = ['vouch.service', 'vouch-server.service', 'vouch-signer.service'];
const all = [...units, 'workload.service', 'vouch-agent.service'];

const textOf = (unit: string): string => readFileSync(join(folder, unit), 'utf8');

/** Values of a directive, each line's. */
function valuesOf(unit: string, directive: string): string[] {
  return [...textOf(unit).matchAll(new RegExp(`^${directive}=(.*)$`, 'gm'))].map(([, value = '']) => value);
}

/** Names of all system calls in a group (systemd.exec(5)), or of the one that is named. */
function callsOf(name: string): string[] {
  if (!name.startsWith('@')) return [name];
  const listed = execFileSync('systemd-analyze', ['syscall-filter', name, '--no-pager'], {
    encoding: 'utf8',
  });
  const lines = [...listed.matchAll(/^ {4}([@a-z0-9_-]+)$/gm)].map(([, line = '']) => line);
  return lines.flatMap(callsOf);
}

function allowedCalls(unit: string): Set<string> {
  const allowed = new Set(callsOf('@default'));
  for (const filter of valuesOf(unit, 'SystemCallFilter'))
    for (const call of filter.replace(/^~/, '').split(' ').flatMap(callsOf))
      if (filter.startsWith('~')) allowed.delete(call);
      else allowed.add(call);
  return allowed;
}

it.each(all)('%s says nothing that systemd does not understand', (unit) => {
  const copies = newFolder();
  // The program is not installed here, and an example's user is nobody here.
  for (const name of all)
    writeFileSync(
      join(copies, name),
      textOf(name).replace(/^ExecStart=vouch/m, `ExecStart=${project}/scripts/vouch`),
    );
  const verified = spawnSync('systemd-analyze', ['verify', '--man=no', join(copies, unit)], {
    encoding: 'utf8',
  });
  expect([verified.status, verified.stderr]).toEqual([0, '']);
});

it.each(all)('%s is exposed to 2.5 of 10 at most, the agent of root to 3.5', (unit) => {
  const exposureMax = unit === 'vouch-agent.service' ? 35 : 25;
  const rate = (text: string): number | null => {
    const file = join(newFolder(), unit);
    writeFileSync(file, text);
    const options = ['--offline=yes', '--no-pager', `--threshold=${exposureMax}`];
    return spawnSync('systemd-analyze', ['security', ...options, file]).status;
  };
  expect(rate(textOf(unit))).toBe(0);
  expect(
    rate(textOf(unit).replace(/^(?:Protect|Private|Restrict|SystemCall|CapabilityBounding).*$/gm, '')),
  ).toBe(1);
});

it('the PIN is handed to the signer’s unit alone, cores are off, and V8 may compile', () => {
  expect(valuesOf('vouch.service', 'LoadCredential')).toEqual(['pin:/etc/vouch/pin']);
  expect(valuesOf('vouch-signer.service', 'LoadCredential')).toEqual(['pin:/etc/vouch/pin']);
  expect(valuesOf('vouch-server.service', 'LoadCredential')).toEqual([]);
  expect(valuesOf('vouch-server.service', 'User')).not.toEqual(valuesOf('vouch-signer.service', 'User'));
  expect(valuesOf('vouch-signer.service', 'RestrictAddressFamilies')).toEqual(['AF_UNIX']);
  for (const unit of units) {
    expect(valuesOf(unit, 'LimitCORE'), unit).toEqual(['0']);
    expect(valuesOf(unit, 'MemoryDenyWriteExecute'), unit).toEqual([]);
  }
});

it('no system call of server and signer, from start to end, is one that their units refuse', async () => {
  const authority = await initAuthority();
  const stage = new Stage(authority.folder);
  const [uid = 0] = unusedUids(1);
  const user = { uid, groups: [] };
  for (const path of [authority.state, dirname(authority.tokens.online.pinFile)]) give(path, user);
  const counted = join(authority.state, 'calls');
  const strace = ['strace', '-f', '-c', '-U', 'name', '-o', counted];
  const served = stage.as(user, [
    ...strace,
    ...stage.vouch('server', '--config', authority.config, '--json'),
  ]);
  const line = await served.until(({ stdout }) => /^.*"ready".*$/m.exec(stdout)?.[0]);
  const { serial } = await authority.enroll('orders');
  expect((await authority.vouch('revoke', '--serial', serial)).json()).toMatchObject({ published: true });
  expect((await authority.vouch('backup', join(authority.state, 'backup'))).code).toBe(0);
  process.kill((JSON.parse(line) as { pid: number }).pid, 'SIGTERM');
  await served.ended();
  const made = readFileSync(counted, 'utf8').match(/^[a-z0-9_]{2,}$/gm) ?? [];
  const called = made.filter((name) => name !== 'syscall' && name !== 'total');
  expect(called).toEqual(expect.arrayContaining(['execve', 'fsync', 'accept4', 'clone3']));
  for (const unit of units) {
    const allowed = allowedCalls(unit);
    expect(
      called.filter((name) => !allowed.has(name)),
      unit,
    ).toEqual([]);
  }
}, 60_000);
