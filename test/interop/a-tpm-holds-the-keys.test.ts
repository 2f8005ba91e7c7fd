import { cpSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, it } from 'vitest';
import { Authority, type Token } from '../support/daemon.ts';
import { pkcs11Tool } from '../support/pkcs11-tool.ts';
import { newFolder } from '../support/running.ts';
import { startTpm } from '../support/tpm.ts';

let authority: Authority;
let online: Token;
/** What another program lists in the token. */
let shown: string;

/** swtpm and the resource manager were seen to wait for each other for ever: then another pair is taken, once. */
const attempts = 2;
const bootMs = 40_000;

beforeAll(async () => {
  for (let attempt = 1; ; attempt += 1) {
    const booted = await Promise.race([boot().catch(() => false), sleep(bootMs, false, { ref: false })]);
    if (booted) return;
    if (attempt === attempts) throw new Error(`no signer, ${attempts} times`);
  }
}, 150_000);

/** True where the signer signs, and another program sees what it made. */
async function boot(): Promise<boolean> {
  const folder = newFolder();
  const tpm = await startTpm(folder);
  online = await tpm.newToken('online');
  authority = new Authority(folder, 'test.example', { online, root: await tpm.newToken('root') });
  (await authority.init()).json();
  await authority.start();
  shown = pkcs11Tool(online, '--list-objects');
  return (await authority.status()).signer.state === 'usable';
}

it('in two tokens of one serial: keys that sign and do nothing else (issuer, log, JWT-SVIDs), a P-256 log key, the guard', () => {
  const pairs = [...shown.matchAll(/^Private Key Object; EC\n(?: .*\n)*/gm)].map(([text]) => text);
  expect(pairs).toHaveLength(3);
  for (const pair of pairs) {
    expect(pair).toMatch(/Usage: +sign\n/);
    expect(pair).toMatch(/Access: +sensitive, always sensitive, never extractable, local\n/);
  }
  expect(shown).toMatch(/label: +'vouch-guard'/);
  const { logKey } = JSON.parse(readFileSync(join(authority.state, 'signer/authority.json'), 'utf8')) as {
    logKey: { algorithm: string };
  };
  expect(logKey.algorithm).toBe('ecdsa-p256');
});

it('and issues, revokes, is verified, and outlives a signer that is killed', async () => {
  const { serial } = await authority.enroll('orders');
  expect((await authority.vouch('revoke', '--serial', serial)).json()).toMatchObject({ published: true });
  process.kill(authority.server.ready.signerPid ?? 0, 'SIGKILL');
  await authority.enroll('billing');
  expect((await authority.vouch('log', 'verify', '--state', authority.state)).json()).toMatchObject({
    problems: [],
  });
});

it('a state put back is refused, as long as the module’s store is not put back with it', async () => {
  await authority.server.end();
  const old = authority.path('old');
  const oldStore = authority.path('old-store');
  const store = online.environment.TPM2_PKCS11_STORE ?? '';
  cpSync(authority.state, old, { recursive: true });
  cpSync(store, oldStore, { recursive: true });
  await authority.start();
  await authority.enroll('shipping');
  await authority.server.end();
  const putBack = (from: string, to: string): void => {
    rmSync(to, { recursive: true });
    cpSync(from, to, { recursive: true });
  };
  putBack(old, authority.state);
  expect((await authority.refusal()).problem.code).toBe('integrity-rewind');
  // Data objects lie in the store, not in the chip: docs/hsm.md says what that means.
  putBack(oldStore, store);
  await authority.start();
});
