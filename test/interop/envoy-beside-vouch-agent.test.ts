import { writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { type Authority, bootAuthority, startVouch } from '../support/daemon.ts';
import { freePort } from '../support/ports.ts';
import { eventually, type Running, start } from '../support/running.ts';
import { type EnvoyPlace, envoyConfig, envoyProgram } from '../support/sds-host.ts';
import { deliveredIdentity, type Target, TlsPeer } from '../support/tls-peer.ts';

// The whole road: server, `vouch agent` beside an Envoy with deploy/envoy/mtls.yaml, and whoever is told apart by its group.

const limitMs = 1000;
const rounds = 3;
const groups = { web: 54_003, gateway: 54_004 };

let authority: Authority;
let agent: Running;
let dir: string;
let inbound: Target;
let outbound: Target;
let seen: IncomingHttpHeaders;

const service = createServer((request, response) => {
  seen = request.headers;
  response.end('served');
});

beforeAll(async () => {
  const program = envoyProgram();
  authority = await bootAuthority();
  await new Promise<void>((done) => service.listen(0, '127.0.0.1', done));
  await entry('web', groups.web, '--allow', authority.id('gateway'));
  await entry('gateway', groups.gateway);
  dir = authority.path('agent');
  const socket = join(dir, 'agent.sock');
  const { path } = await authority.join('host-1');
  agent = startVouch(['agent', '--join-file', path, '--dir', dir, '--socket', socket, '--json']);
  await agent.until(({ stdout }) => stdout.includes('\n'));

  const ports: number[] = [];
  for (let index = 0; index < 4; index += 1) ports.push(await freePort());
  const [inboundPort = 0, outboundPort = 0, spare = 0, spareToo = 0] = ports;
  inbound = { host: '127.0.0.1', port: inboundPort };
  outbound = { host: '127.0.0.1', port: outboundPort };
  const servicePort = (service.address() as AddressInfo).port;
  const place = { socket, servicePort, other: authority.id('web'), otherPort: inboundPort };
  envoy(program, groups.web, { ...place, inboundPort, outboundPort: spare });
  envoy(program, groups.gateway, { ...place, inboundPort: spareToo, outboundPort });
  await eventually(async () => (await askThroughGateway()) === 'served', 30_000);
}, 300_000);
afterAll(async () => {
  service.close();
  expect(await agent.end('SIGTERM')).toBe(0);
});

/** An entry of `host-1` for whoever is in this group. */
async function entry(name: string, group: number, ...flags: readonly string[]): Promise<void> {
  const ids = ['--id', authority.id(name), '--parent', authority.id('host-1')];
  const selector = ['--selector', `unix:supplementary_gid:${group}`];
  (await authority.vouch('entry', 'create', ...ids, ...selector, ...flags)).json();
}

function envoy(program: string, group: number, place: EnvoyPlace): void {
  const config = `${authority.path('envoy')}.yaml`;
  writeFileSync(config, envoyConfig(place));
  const quiet = ['--disable-hot-restart', '--concurrency', '1', '--log-level', 'warning'];
  start(['setpriv', '--groups', String(group), program, '-c', config, ...quiet]);
}

async function askThroughGateway(): Promise<string> {
  try {
    const response = await fetch(`http://127.0.0.1:${outbound.port}/`, { headers: { connection: 'close' } });
    return await response.text();
  } catch (error) {
    return String((error as Error).cause ?? error);
  }
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
  expect(await askThroughGateway()).toBe('served');
  expect(seen['x-forwarded-client-cert']).toContain(`URI=${authority.id('gateway')}`);
});

test('a caller is refused a second after the operator’s word, and one who is not allowed always', async () => {
  const callers = await Promise.all(Array.from({ length: rounds }, () => authority.enroll('gateway')));
  const stranger = await authority.enroll('stranger');
  expect(await new TlsPeer(deliveredIdentity(stranger.dir), inbound).ask()).toBeDefined();
  const measured: number[] = [];
  for (const { dir, serial } of callers) {
    const caller = new TlsPeer(deliveredIdentity(dir), inbound);
    expect(await caller.ask()).toBeUndefined();
    const startMs = performance.now();
    await revoke(serial);
    while ((await caller.ask()) === undefined) await sleep(5);
    measured.push(performance.now() - startMs);
  }
  expect(Math.min(...measured), measured.join()).toBeLessThan(limitMs);
  expect(await askThroughGateway()).toBe('served');
}, 120_000);

test('an Envoy whose own certificate is revoked is given another, and goes on', async () => {
  const before = await serialOf('web');
  expect(before).not.toBe('');
  await revoke(before);
  await eventually(async () => (await serialOf('web')) !== before && (await serialOf('web')) !== '', 30_000);
  await eventually(async () => (await askThroughGateway()) === 'served', 30_000);
}, 120_000);
