import { hash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, it } from 'vitest';
import { openCompletion } from '../../src/init/complete.ts';
import { openLog } from '../../src/telemetry/log.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { parseCrl } from '../../src/x509/crl.ts';
import { startVouch } from '../support/daemon.ts';
import { twoMachines, type TwoMachines } from '../support/two-machines.ts';

let machines: TwoMachines;
let carried: string;
let result: string;

beforeAll(async () => {
  machines = await twoMachines();
  ({ carried } = await machines.request());
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

/** SHA-256 of what was signed in a file of a result; undefined where the file is cut off. */
function signedHash(folder: string, name: string): string | undefined {
  const bytes = readFileSync(join(folder, name));
  const text = bytes.toString('ascii');
  try {
    if (name.endsWith('.crl')) return hash('sha256', parseCrl(bytes).tbs, 'hex');
    if (name.endsWith('.cer')) return hash('sha256', parseCertificate(bytes).tbs, 'hex');
    return hash('sha256', text.slice(0, text.lastIndexOf('.')), 'hex');
  } catch {
    return undefined;
  }
}

it('a ceremony killed at any moment has announced all that was signed, and the key goes on in another one', async () => {
  const { root } = machines;
  const moments = ['write-ahead.jsonl', 'root.cer', 'root.crl', 'statement.jws', 'transcript.json'];
  for (const moment of moments) {
    const held = root.file({
      request: { file: carried },
      root: { key: { create: 'ec-p256', label: `until ${moment}` } },
    });
    (await root.vouch(['ceremony', '--file', held.file, '--json'])).json();
    const running = startVouch(['ceremony', '--file', held.file, '--yes', '--json']);
    await running.until(() => existsSync(join(held.out, moment)));
    running.signal('SIGKILL');
    await running.ended();
    const ahead = readFileSync(join(held.out, 'write-ahead.jsonl'), 'utf8').split('\n').slice(0, -1);
    const announced = ahead.map((line) => (JSON.parse(line) as { tbsSha256: string }).tbsSha256);
    const signed = readdirSync(held.out)
      .filter((name) => /\.(?:cer|crl)$|^statement/.test(name))
      .flatMap((name) => signedHash(held.out, name) ?? []);
    expect(announced, moment).toEqual(expect.arrayContaining(signed));
    const again = await root.vouch(['ceremony', '--file', held.file, '--yes', '--json']);
    expect(again.problem.detail, moment).toContain(
      'write-ahead.jsonl in it says what an attempt may have signed',
    );
  }
  const key = { key: { use: { label: 'until root.crl' } } };
  const whole = await root.hold({ request: { file: carried }, root: key });
  expect(readdirSync(whole)).toContain('transcript.jws');
}, 60_000);
