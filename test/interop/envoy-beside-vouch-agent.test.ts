import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { type Authority, bootAuthority, startVouch } from '../support/daemon.ts';
import { eventually, type Running } from '../support/running.ts';
import { deliveredIdentity, TlsPeer } from '../support/tls-peer.ts';
import { EnvoyPair } from './envoy-pair.ts';

// The whole road: server, `vouch agent` beside an Envoy with deploy/envoy/mtls.yaml, and whoever is told apart by its group.

const limitMs = 1000;
const rounds = 3;
const groups = { web: 54_003, gateway: 54_004 };

let authority: Authority;
let agent: Running;
let envoys: EnvoyPair;

beforeAll(async () => {
  authority = await bootAuthority();
  await entry('web', groups.web, '--allow', authority.id('gateway'));
  await entry('gateway', groups.gateway);
  const dir = authority.path('agent');
  const socket = join(dir, 'agent.sock');
  const { path } = await authority.join('host-1');
  agent = startVouch(['agent', '--join-file', path, '--dir', dir, '--socket', socket, '--json']);
  await agent.until(({ stdout }) => stdout.includes('\n'));
  envoys = await EnvoyPair.start(authority, { socket, groups });
}, 300_000);
afterAll(async () => {
  envoys.close();
  expect(await agent.end('SIGTERM')).toBe(0);
});

/** An entry of `host-1` for whoever is in this group. */
async function entry(name: string, group: number, ...flags: readonly string[]): Promise<void> {
  const ids = ['--id', authority.id(name), '--parent', authority.id('host-1')];
  const selector = ['--selector', `unix:supplementary_gid:${group}`];
  (await authority.vouch('entry', 'create', ...ids, ...selector, ...flags)).json();
}

async function revoke(serial: string): Promise<void> {
  const body = { target: { serial }, reason: 'superseded' };
  await callAdmin(authority.server.ready.adminSocket, 'POST', adminPaths.revocations, body);
}

/** Serial of the certificate that is served for a name. */
async function serialOf(name: string): Promise<string> {
  const listed = await authority.vouch('cert', 'list', '--id', authority.id(name));
  const { certificates } = listed.json<{ certificates: { serial: string; revokedAt?: string | null }[] }>();
  return certificates.filter(({ revokedAt }) => !revokedAt).at(-1)?.serial ?? '';
}

test('two Envoys of one host have an identity each, and speak mTLS', async () => {
  expect(await envoys.askThroughGateway()).toBe('served');
  expect(envoys.seen['x-forwarded-client-cert']).toContain(`URI=${authority.id('gateway')}`);
});

test('a caller is refused a second after the operator’s word, and one who is not allowed always', async () => {
  const callers = await Promise.all(Array.from({ length: rounds }, () => authority.enroll('gateway')));
  const stranger = await authority.enroll('stranger');
  expect(await new TlsPeer(deliveredIdentity(stranger.dir), envoys.inbound).ask()).toBeDefined();
  const measured: number[] = [];
  for (const { dir, serial } of callers) {
    const caller = new TlsPeer(deliveredIdentity(dir), envoys.inbound);
    expect(await caller.ask()).toBeUndefined();
    const startMs = performance.now();
    await revoke(serial);
    while ((await caller.ask()) === undefined) await sleep(5);
    measured.push(performance.now() - startMs);
  }
  expect(Math.min(...measured), measured.join()).toBeLessThan(limitMs);
  expect(await envoys.askThroughGateway()).toBe('served');
}, 120_000);

test('an Envoy whose own certificate is revoked is given another, and goes on', async () => {
  const before = await serialOf('web');
  expect(before).not.toBe('');
  await revoke(before);
  await eventually(async () => (await serialOf('web')) !== before && (await serialOf('web')) !== '', 30_000);
  await eventually(async () => (await envoys.askThroughGateway()) === 'served', 30_000);
}, 120_000);
