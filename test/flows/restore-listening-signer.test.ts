import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { initAuthority, startVouch } from '../support/daemon.ts';

test("a signer with a state of its own follows the root's statement into a new log, and again", async () => {
  // Keys of other types than usual: the root signs its statements by PSS, the log's key is P-256.
  const keys = ['--root-key', 'rsa-3072-pss', '--issuer-key', 'ed25519', '--log-key', 'ec-p256'];
  const authority = await initAuthority({ init: keys });
  const own = authority.path('signer-state');
  mkdirSync(own, { mode: 0o700 });
  cpSync(join(authority.state, 'signer'), join(own, 'signer'), { recursive: true });
  rmSync(join(authority.state, 'signer'), { recursive: true });
  const signerConfig = authority.path('signer.yaml');
  const config = readFileSync(authority.config, 'utf8').replace(/^state: .*$/m, `state: ${own}`);
  writeFileSync(signerConfig, config, { mode: 0o600 });
  const socket = join(authority.folder, 'sg');
  const listen = async () => {
    const signer = startVouch(['signer', '--config', signerConfig, '--listen', socket]);
    onTestFinished(() => void signer.end());
    await signer.until((running) => running.stderr.includes('the signer listens'));
    return signer;
  };
  const signer = await listen();
  authority.configure((changed) => {
    changed.signer = { socket };
  });
  await authority.start();
  const backup = authority.path('backup');
  expect((await authority.vouch('backup', backup)).code).toBe(0);
  await authority.enroll('later');
  await authority.server.end();
  expect((await authority.vouch('restore', backup)).problem.code).toBe('integrity-rewind');

  const rootFile = join(authority.folder, 'root.json');
  const back = () =>
    authority.vouch('restore', backup, '--accept-rewind', '--yes', '--root-hsm-file', rootFile);
  for (const attempt of ['first', 'second']) {
    expect((await back()).json(), attempt).toMatchObject({ rewound: true });
    // Floor and authority are the signer's: a state without them misses nothing.
    expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
      problems: [],
    });
    await authority.start();
    await authority.enroll(attempt);
    await authority.server.end();
  }
  // What it took over is on its own disk.
  await signer.end();
  await listen();
  await authority.start();
  await authority.enroll('last');
}, 60_000);
