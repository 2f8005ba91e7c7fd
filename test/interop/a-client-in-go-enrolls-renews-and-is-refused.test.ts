import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, expect, test } from 'vitest';
import { type Authority, bootAuthority, joinContent, writeJoin } from '../support/daemon.ts';
import { eventually, newFolder, type Running, start } from '../support/running.ts';

// A client in another language, which does what docs/enrollment.md, docs/log-format.md and docs/openapi.json say and no more.

const buildTimeoutMs = 180_000;

let authority: Authority;
let program: string;

beforeAll(async () => {
  [authority, program] = await Promise.all([bootAuthority(), build()]);
}, buildTimeoutMs);

/** Builds it with the Go of this machine, nothing fetched. */
async function build(): Promise<string> {
  const built = join(newFolder(), 'client');
  const env = {
    ...process.env,
    GO111MODULE: 'on',
    GOFLAGS: '-mod=mod',
    GOPROXY: 'off',
    GOTOOLCHAIN: 'local',
    GOWORK: 'off',
  };
  const cwd = join(import.meta.dirname, 'go-client');
  await promisify(execFile)('go', ['build', '-o', built, '.'], { cwd, env, timeout: buildTimeoutMs });
  return built;
}

interface Proven {
  spiffeId: string;
  serial: string;
  index: number;
  treeSize: number;
  grewFrom: number;
}

/** The certificates that it got so far, all of them verified. */
function proven(client: Running): Proven[] {
  return client.stdout
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line) as Proven);
}

test.each([
  ['the exporter', 'orders', []],
  ['a nonce', 'billing', ['-nonce']],
])('bound by %s it enrolls, renews, and is refused once revoked', async (_by, name, flags) => {
  const client = start([program, '-join', (await authority.join(name)).path, ...flags]);
  await client.until((running) => proven(running).length === 1);
  client.signal('SIGHUP');
  const [first, second] = await client.until((running) => proven(running).length === 2 && proven(running));
  expect([first?.spiffeId, second?.spiffeId]).toEqual([authority.id(name), authority.id(name)]);
  expect(second?.serial).not.toBe(first?.serial);
  expect(first?.grewFrom).toBe(0);
  expect(second?.grewFrom).toBe(first?.treeSize);
  expect(second?.index).toBeGreaterThanOrEqual(first?.treeSize ?? Number.NaN);

  const lineage = ['--serial', second?.serial ?? '', '--reason', 'keyCompromise', '--yes'];
  const revoked = await authority.vouch('revoke', ...lineage);
  expect(revoked.code, revoked.stderr).toBe(0);
  client.signal('SIGHUP');
  const { code, stderr } = await client.ended();
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^denied-revoked 403 /)]);
});

test.each([
  ['ed25519', 'rsa-4096-pss'],
  ['rsa-3072-pss', 'ed25519'],
  ['rsa-4096', 'ec-p384'],
])('a root of type %s with an issuer of type %s is believed as well', async (root, issuer) => {
  const other = await bootAuthority({ init: ['--root-key', root, '--issuer-key', issuer] });
  // It does not ask twice for a CRL, and RSA takes its time to sign the first ones.
  await eventually(async () => (await fetch(`${other.server.ready.operationsUrl}/readyz`)).ok);
  const client = start([program, '-join', (await other.join('orders')).path]);
  const [first] = await client.until((running) => proven(running).length === 1 && proven(running));
  expect(first?.spiffeId).toBe(other.id('orders'));
  await other.server.end();
});

test('it takes a certificate and a checkpoint of a standby for what they are: of the same log', async () => {
  const paired = await bootAuthority({ standby: true });
  const [, standby] = (await paired.status()).issuers;
  const client = start([program, '-join', (await paired.join('orders')).path]);
  const [first] = await client.until((running) => proven(running).length === 1 && proven(running));
  await paired.takeAway('online');
  await eventually(async () => (await paired.issuing()) === standby?.keyId, 20_000);
  client.signal('SIGHUP');
  const [, second] = await client.until((running) => proven(running).length === 2 && proven(running));
  expect(second?.grewFrom).toBe(first?.treeSize);
  const shown = (await paired.vouch('cert', 'show', second?.serial ?? '')).json<{ issuerKeyId: string }>();
  expect(shown.issuerKeyId).toBe(standby?.keyId);
}, 60_000);

test('it turns away from a server that does not show the pinned root', async () => {
  const { path } = await authority.join('pinned');
  writeJoin(path, { ...joinContent(path), pin: `sha256:${'0'.repeat(64)}` });
  const { code, stderr } = await start([program, '-join', path]).ended();
  expect([code, stderr]).toEqual([1, 'unbelievable server: it does not show the pinned root\n']);
});

test('it believes nothing older than the join file’s floor', async () => {
  const { path } = await authority.join('floored');
  writeJoin(path, { ...joinContent(path), floor: { statement: 0, bundle: 0, treeSize: 1_000_000 } });
  const { code, stderr } = await start([program, '-join', path]).ended();
  expect([code, stderr]).toEqual([1, 'unbelievable age of the log\n']);
});
