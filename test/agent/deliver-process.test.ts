import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as z from 'zod/mini';
import { expect, test } from 'vitest';
import type { Served } from '../../src/agent/workloads.ts';
import { deliverSchema } from '../../src/config/deliver-config.ts';
import { start } from '../support/running.ts';
import { give, Stage, unusedUids } from '../support/users.ts';
import { workloadId } from '../x509/authority.ts';
import { bundled } from './support/bundle.ts';
import { temporaryFolder } from './support/harness.ts';
import { access, current, FakeServed } from './support/served.ts';

/** The input of a process that delivers. */
function written(folder: string, served: Served, ...targets: readonly object[]): string {
  const file = join(folder, 'input.json');
  const parsed = z.parse(
    deliverSchema,
    targets.map((target) => ({ id: workloadId, ...target })),
  );
  writeFileSync(file, JSON.stringify({ targets: parsed, served }));
  return file;
}

test('a disk that fails after the swap costs no reload', async () => {
  const program = await bundled('test/agent/support/deliver-once.ts', 'deliver-once.mjs');
  const folder = temporaryFolder();
  const [dir, log] = [join(folder, 'out'), join(folder, 'log')];
  mkdirSync(dir);
  const reload = { command: ['sh', '-c', `echo $VOUCH_CHANGE >> ${log}`] };
  const input = written(folder, new FakeServed().served(), { dir, reload });
  // The folder itself is synced once in a delivery, after the swap.
  const failing = ['-f', '-qq', '-P', dir, '-e', 'trace=fsync', '-e', 'inject=fsync:error=EIO:when=1'];
  const running = start(['strace', ...failing, process.execPath, program, input]);
  const { code, stdout } = await running.ended();
  expect(code).toBe(0);
  expect(stdout).toMatch(/cannot be written \(EIO\).*trying again/);
  expect(readFileSync(log, 'utf8')).toBe('certificate\n');
});

test('a full disk leaves what was delivered, and nothing beside it', async () => {
  const program = await bundled('test/agent/support/deliver-once.ts', 'deliver-once.mjs');
  const folder = temporaryFolder();
  const dir = join(folder, 'out');
  const fake = new FakeServed();
  const deliver = (served: Served, ...under: string[]) =>
    start([...under, process.execPath, program, written(folder, served, { dir })]);
  expect(await deliver(fake.served()).ended()).toMatchObject({ code: 0 });
  const before = readdirSync(dir);
  const key = current(dir, 'svid.key');

  const full = ['strace', '-f', '-qq', '-e', 'trace=fsync', '-e', 'inject=fsync:error=ENOSPC'];
  const next = fake.served();
  const failing = deliver(next, ...full);
  await failing.until(({ stdout }) => /cannot be written \(ENOSPC\)/.test(stdout));
  await failing.end();
  expect(current(dir, 'svid.key')).toBe(key);
  expect(readdirSync(dir)).toEqual(before);

  expect(await deliver(next).ended()).toMatchObject({ code: 0 });
  expect(current(dir, 'svid.key')).not.toBe(key);
});

test('an agent that is not root delivers for itself and its groups, and says what it cannot give', async () => {
  const program = await bundled('test/agent/support/deliver-once.ts', 'deliver-once.mjs');
  const [uid = 0, group = 0] = unusedUids(2);
  const folder = temporaryFolder();
  const stage = new Stage(folder);
  const home = join(folder, 'home');
  mkdirSync(home);
  const served = new FakeServed().served();
  const [mine, ours, others] = ['mine', 'ours', 'others'].map((name) => join(home, name));
  const run = (...targets: readonly object[]) => {
    writeFileSync(join(home, 'program.mjs'), readFileSync(program));
    const input = written(home, served, ...targets);
    give(home, { uid, groups: [] });
    return stage.as({ uid, groups: [group] }, [stage.vouch()[0] ?? '', join(home, 'program.mjs'), input]);
  };
  expect(await run({ dir: mine }, { dir: ours, group, mode: '0640' }).ended()).toMatchObject({ code: 0 });
  expect(current(mine ?? '', 'svid.pem')).toContain('CERTIFICATE');
  expect(access(mine ?? '', 'svid.key')).toMatchObject({ mode: '600', uid });
  expect(access(ours ?? '', 'svid.key')).toEqual({ mode: '640', uid, gid: group });
  const refused = run({ dir: others, owner: 0 }, { dir: join(home, 'root'), group: 0 });
  await refused.until(({ stdout }) => /cannot give files to 0: run it as root/.test(stdout));
  await refused.until(({ stdout }) =>
    /is not in 0: run it as root, or put that user into the group/.test(stdout),
  );
  await refused.end();
  expect(existsSync(join(others ?? '', 'current'))).toBe(false);
});
