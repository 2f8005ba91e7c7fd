import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { openCompletion } from '../../src/init/complete.ts';
import { openLog } from '../../src/telemetry/log.ts';
import { twoMachines, type TwoMachines } from '../support/two-machines.ts';

let machines: TwoMachines;
let result: string;

beforeAll(async () => {
  machines = await twoMachines();
  const { carried } = await machines.request();
  result = await machines.root.hold({ request: { file: carried } });
}, 60_000);

it('a state that somebody completed while another one compared the pin is left alone', async () => {
  const { state } = machines.authority;
  const unsure = openCompletion({ state, ceremonyIn: result, rootPin: undefined });
  // Power was lost while an attempt wrote down that the log begins: it had not begun.
  const unfinished = join(state, 'init.unfinished');
  mkdirSync(unfinished, { mode: 0o700 });
  writeFileSync(join(unfinished, 'begun'), '');
  (await machines.takeIn(result, '--yes')).json();
  const all = (): Set<string> => new Set(readdirSync(state, { recursive: true, encoding: 'utf8' }));
  const made = all();
  await expect(unsure.complete(openLog('silent'), () => undefined)).rejects.toMatchObject({
    code: 'config-state',
    detail: expect.stringContaining('another `vouch init` has completed it'),
  });
  expect(all()).toEqual(made);
  expect(existsSync(join(state, 'signer', 'floor.json'))).toBe(true);
  await machines.authority.start();
  await machines.authority.server.end();
}, 60_000);
