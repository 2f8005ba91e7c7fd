import { execFileSync } from 'node:child_process';
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { HsmConfig } from '../../src/signer/hsm.ts';

/** A SoftHSM token for a test, made by the project's own `hsm-sim/new-token`. */
export interface TestToken {
  dir: string;
  hsm: HsmConfig;
  /** The PIN itself, for tests that look where it must not stand. */
  pin: string;
}

/** Makes a token in `dir`, or in a new folder of its own; `options` are further ones of `hsm-sim/new-token`. */
export function newTestToken(
  label = 'test',
  dir = temporaryFolder('token'),
  options: readonly string[] = [],
): TestToken {
  const simulator = process.env.VOUCH_TEST_SIMULATOR === undefined ? [] : ['--shim'];
  const args = ['--dir', join(dir, label), '--label', label, '--json', ...simulator, ...options];
  const made = execFileSync('hsm-sim/new-token', args, {
    cwd: resolve(import.meta.dirname, '../..'),
    encoding: 'utf8',
  });
  const hsm = JSON.parse(made) as HsmConfig;
  return { dir: join(dir, label), hsm, pin: readFileSync(hsm.pinFile, 'utf8').trim() };
}

/** What a token of our tests may do. */
const mechanisms = [
  'CKM_ECDSA',
  'CKM_EC_KEY_PAIR_GEN',
  'CKM_EDDSA',
  'CKM_EC_EDWARDS_KEY_PAIR_GEN',
  'CKM_RSA_PKCS',
  'CKM_RSA_PKCS_PSS',
  'CKM_RSA_PKCS_KEY_PAIR_GEN',
] as const;

/** Takes a mechanism away from a token, for what opens it from now on. SoftHSM lists those that are left. */
export function withoutMechanism(
  { environment }: Pick<HsmConfig, 'environment'>,
  name: (typeof mechanisms)[number],
): void {
  const left = mechanisms.filter((one) => one !== name);
  appendFileSync(environment.SOFTHSM2_CONF ?? '', `slots.mechanisms = ${left.join(',')}\n`);
}

const folders: string[] = [];

/** A folder under the system's temporary one, removed at the end of the test process. Its name is short: sockets live there. */
export function temporaryFolder(name: string): string {
  if (folders.length === 0)
    process.once('exit', () => {
      for (const folder of folders) rmSync(folder, { recursive: true, force: true });
    });
  const folder = mkdtempSync(join(tmpdir(), `vouch-${name}-`));
  folders.push(folder);
  return folder;
}
