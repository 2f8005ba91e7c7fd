import { readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { freePort } from '../support/ports.ts';
import { eventually, type Running, start } from '../support/running.ts';
import { envoyConfig, envoyProgram, SdsHost, svidFrom, trustFrom } from '../support/sds-host.ts';
import { deliveredIdentity, type Target, TlsPeer } from '../support/tls-peer.ts';

// deploy/envoy/mtls.yaml, run by the command of docs/integrations/envoy.md, twice: one Envoy in front of `web`, one that `gateway` calls it by.

/** From the operator's word to the refusal; the best of as many victims, on a shared machine. */
const limitMs = 1000;
const victims = 3;
/** Told apart by a group that nothing else here is in. */
const groups = { web: 54_001, gateway: 54_002 };

let authority: Authority;
let host: SdsHost;
let web: Workload;
let gateway: Workload;
let crls: Buffer[] | undefined;
let crlUrl: string;
let allowed: string[];
/** Of `web`'s Envoy, and the plain port of `gateway`'s. */
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
  host = new SdsHost(authority.path('sock'));
  await host.listen();
  await new Promise<void>((done) => service.listen(0, '127.0.0.1', done));
  [web, gateway] = await Promise.all([authority.enroll('web'), authority.enroll('gateway')]);
  crlUrl = (await authority.status()).crls.find(({ scope }) => scope === 'full')?.url ?? '';
  allowed = [authority.id('gateway'), authority.id('ops/*')];
  serve();

  const place = { socket: host.socket, servicePort: (service.address() as AddressInfo).port };
  const ports = [];
  for (let index = 0; index < 4; index += 1) ports.push(await freePort());
  const [inboundPort = 0, outboundPort = 0, spare = 0, spareToo = 0] = ports;
  const other = authority.id('web');
  inbound = { host: '127.0.0.1', port: inboundPort };
  outbound = { host: '127.0.0.1', port: outboundPort };
  startEnvoy(program, groups.web, { ...place, inboundPort, outboundPort: spare, otherPort: 1, other });
  startEnvoy(program, groups.gateway, {
    ...place,
    inboundPort: spareToo,
    outboundPort,
    otherPort: inboundPort,
    other,
  });
  await eventually(async () => (await askThroughGateway()) === 'served');
}, 300_000);
afterAll(async () => {
  service.close();
  await host.close();
});

/** The document's command, in a group of its own. */
function startEnvoy(program: string, group: number, place: Parameters<typeof envoyConfig>[0]): Running {
  const config = `${authority.path('envoy')}.yaml`;
  writeFileSync(config, envoyConfig(place));
  const document = readFileSync(resolve('docs/integrations/envoy.md'), 'utf8');
  const [, command = ''] = /^```sh\n(envoy [^`]+)\n```$/m.exec(document) ?? [];
  const args = command.replace('/etc/envoy/mtls.yaml', config).split(' ').slice(1);
  const quiet = ['--disable-hot-restart', '--concurrency', '1', '--log-level', 'warning'];
  return start(['setpriv', '--groups', String(group), program, ...args, ...quiet]);
}

/** What the agent holds now. */
function serve(): void {
  host.held.serve({
    svids: [
      svidFrom(web, { selectors: [`unix:supplementary_gid:${groups.web}`], allowedClients: allowed }),
      svidFrom(gateway, { selectors: [`unix:supplementary_gid:${groups.gateway}`], allowedClients: [] }),
    ],
    trust: trustFrom(web, crls),
  });
}

/** A caller of `web`'s Envoy with a certificate of its own. */
async function peerOf(name: string): Promise<TlsPeer> {
  return new TlsPeer(deliveredIdentity((await authority.enroll(name)).dir), inbound);
}

async function askThroughGateway(): Promise<string> {
  try {
    const response = await fetch(`http://127.0.0.1:${outbound.port}/`, { headers: { connection: 'close' } });
    return await response.text();
  } catch (error) {
    return String((error as Error).cause ?? error);
  }
}

/** Revokes, and has the agent hold what is published then, as its watcher would. */
async function revoke(serial: string): Promise<void> {
  const body = { target: { serial }, reason: 'superseded' };
  await callAdmin(authority.server.ready.adminSocket, 'POST', adminPaths.revocations, body);
  const [, rootCrl] = trustFrom(web).crls;
  if (rootCrl === undefined) throw new Error('no CRL of the root');
  crls = [Buffer.from(await (await fetch(crlUrl)).arrayBuffer()), rootCrl];
}

test('mTLS between two Envoys, and the service is told who calls', async () => {
  expect(await askThroughGateway()).toBe('served');
  expect(seen['x-forwarded-client-cert']).toContain(`URI=${authority.id('gateway')}`);
}, 120_000);

test('a caller whom the entry does not name is refused, as is one without a certificate', async () => {
  const ask = async (name: string) => (await peerOf(name)).ask();
  const strangers = await Promise.all(['stranger', 'web', 'ops', 'opsx/a'].map(ask));
  for (const refusal of strangers) expect(refusal).toMatch(/alert|closed|reset/i);
  expect(await ask('ops/a')).toBeUndefined();
  const { ca } = deliveredIdentity(gateway.dir);
  expect(await new TlsPeer({ cert: '', key: '', ca }, inbound).ask()).toBeDefined();
}, 120_000);

test('a rotation of either side fails no handshake', async () => {
  const refusals: string[] = [];
  let tries = 0;
  let isOver = false;
  const knocking = (async () => {
    const peer = await peerOf('gateway');
    while (!isOver) {
      tries += 1;
      const [direct, through] = await Promise.all([peer.ask(), askThroughGateway()]);
      if (direct !== undefined || through !== 'served') refusals.push(`${direct} ${through}`);
      await sleep(5);
    }
  })();
  for (let round = 0; round < 3; round += 1) {
    [web, gateway] = await Promise.all([authority.enroll('web'), authority.enroll('gateway')]);
    serve();
    const before = tries;
    await eventually(() => tries > before + 10);
  }
  isOver = true;
  await knocking;
  expect(refusals).toEqual([]);
  expect(host.notices).toEqual([]);
}, 120_000);

test('a revoked caller is refused at once, also with a session from before; others are not', async () => {
  const good = await peerOf('gateway');
  const enrolled = await Promise.all(Array.from({ length: victims }, () => authority.enroll('gateway')));
  const measured: number[] = [];
  for (const { dir, serial } of enrolled) {
    const victim = new TlsPeer(deliveredIdentity(dir), inbound);
    expect(await victim.ask()).toBeUndefined();
    const startMs = performance.now();
    await revoke(serial);
    serve();
    while ((await victim.ask()) === undefined || (await victim.ask({ resume: true })) === undefined);
    measured.push(performance.now() - startMs);
    expect(await good.ask()).toBeUndefined();
  }
  expect(Math.min(...measured), measured.join()).toBeLessThan(limitMs);
}, 120_000);

test('a revoked server is refused, too', async () => {
  await revoke(web.serial);
  serve();
  await eventually(async () => (await askThroughGateway()) !== 'served');
  web = await authority.enroll('web');
  serve();
  await eventually(async () => (await askThroughGateway()) === 'served');
}, 120_000);

test('an entry that lets nobody call lets in nobody', async () => {
  allowed = [];
  serve();
  const peer = await peerOf('gateway');
  await eventually(async () => (await peer.ask()) !== undefined);
  expect(await askThroughGateway()).not.toBe('served');
  expect(host.notices).toEqual([]);
}, 120_000);
