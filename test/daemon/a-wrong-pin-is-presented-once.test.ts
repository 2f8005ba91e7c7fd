import { signalTo } from '../support/signal.ts';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { type Authority, initAuthority, runVouch } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';

let authority: Authority;
let pinFile: string;
let rightPin: string;

beforeEach(async () => {
  authority = await initAuthority();
  pinFile = authority.tokens.online.pinFile;
  rightPin = readFileSync(pinFile, 'utf8');
});

/** Replaces the PIN file by a new one, as an operator's editor does. */
function replacePin(pin: string): void {
  writeFileSync(`${pinFile}.new`, pin, { mode: 0o600 });
  renameSync(`${pinFile}.new`, pinFile);
}

it('is refused once, said so, and not presented again by any start until the file is replaced', async () => {
  replacePin('00000000');
  const first = await authority.refusal();
  expect(first.code).toBe(78);
  expect(first.problem.code).toBe('config-pin');
  expect(first.problem.detail).toMatch(
    /the token refused the PIN in .*put the right one there; the refused one is not tried again/,
  );
  expect(first.stderr + first.stdout).not.toContain('00000000');
  expect(readFileSync(`${authority.state}/signer/pin-refused`, 'utf8')).not.toContain('00000000');

  for (let start = 0; start < 2; start += 1) {
    const again = await authority.refusal();
    expect(again.code).toBe(78);
    expect(again.problem.code).toBe('config-pin');
    expect(again.stderr).toMatch(/it is not presented again before the file is replaced/);
    expect(again.stderr).not.toContain('CKR_PIN_INCORRECT');
  }

  replacePin(rightPin);
  await authority.start();
  await authority.enroll('orders');
  expect(existsSync(`${authority.state}/signer/pin-refused`)).toBe(false);
});

it('another wrong one is a replacement: it is presented, once', async () => {
  for (const wrong of ['00000000', '11111111']) {
    replacePin(wrong);
    const refused = await authority.refusal();
    expect(refused.code).toBe(78);
    expect(refused.stderr).toContain('CKR_PIN_INCORRECT');
  }
  expect((await authority.refusal()).stderr).not.toContain('CKR_PIN_INCORRECT');
});

it('a running server does not present it again either, and goes on serving what is signed', async () => {
  await authority.start();
  replacePin('00000000');
  signalTo(authority.server.ready.signerPid, 'SIGKILL');
  const status = async () => (await authority.vouch('status')).json<{ signer: { state: string } }>();
  await eventually(async () => (await status()).signer.state === 'unusable');
  // Longer than any pause between two starts.
  await new Promise((done) => setTimeout(done, 1500));
  const log = authority.server.log();
  expect(
    log.filter((line) => line.code === 'config-pin' && line.msg === 'the signer did not start'),
  ).toHaveLength(1);
  const served = await fetch(`${authority.server.ready.publicationUrl}/bundle.json`);
  expect(served.status).toBe(200);
});

it('of the root is not presented again by init either', async () => {
  writeFileSync(authority.tokens.root.pinFile, '00000000', { mode: 0o600 });
  const files = ['online', 'root'].flatMap((name) => [
    name === 'root' ? '--root-hsm-file' : '--hsm-file',
    join(authority.folder, `${name}.json`),
  ]);
  const state = authority.path('again');
  const init = () =>
    runVouch(['init', '--dev', '--state', state, '--trust-domain', 'b.test', ...files, '--json']);
  expect((await init()).problem.detail).toContain('CKR_PIN_INCORRECT');
  expect((await init()).problem.detail).toContain('it is not presented again before the file is replaced');
});
