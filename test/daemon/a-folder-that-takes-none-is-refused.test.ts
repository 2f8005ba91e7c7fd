import { join } from 'node:path';
import { expect, it } from 'vitest';
import { runVouch, writeJoin } from '../support/daemon.ts';
import { newFolder, start } from '../support/running.ts';

it('enroll --out below /proc: 78, at once', async () => {
  const file = join(newFolder(), 'a.join');
  writeJoin(file, {
    server: 'https://127.0.0.1:1',
    trustDomain: 'test.example',
    pin: `sha256:${'0'.repeat(64)}`,
    token: `vjt_${'A'.repeat(49)}`,
    floor: { statement: 1, bundle: 1, treeSize: 1 },
  });
  const ran = await runVouch(['enroll', '--join-file', file, '--out', '/proc/nowhere/w', '--json']);
  expect(ran.problem).toMatchObject({
    code: 'config-state',
    detail: expect.stringContaining('/proc/nowhere') as unknown,
  });
  expect(ran.code).toBe(78);
}, 10_000);

it('new-token --dir below /proc: 1, at once', async () => {
  const ran = await start(['hsm-sim/new-token', '--dir', '/proc/nowhere/t', '--label', 't']).ended();
  expect(ran.stderr).toContain('/proc/nowhere');
  expect(ran.code).toBe(1);
}, 10_000);
