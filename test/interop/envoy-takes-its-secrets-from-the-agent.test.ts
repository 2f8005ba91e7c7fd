import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { callAdmin } from '../../src/cli/admin-client.ts';
import { adminPaths } from '../../src/wire/admin.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { SdsHost, svidFrom, trustFrom } from '../support/sds-host.ts';
import { deliveredIdentity, TlsPeer } from '../support/tls-peer.ts';
import { EnvoyPair } from './envoy-pair.ts';

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
let envoys: EnvoyPair;

beforeAll(async () => {
  authority = await bootAuthority();
  host = new SdsHost(authority.path('sock'));
  await host.listen();
  [web, gateway] = await Promise.all([authority.enroll('web'), authority.enroll('gateway')]);
  crlUrl = (await authority.status()).crls.find(({ scope }) => scope === 'full')?.url ?? '';
  allowed = [authority.id('gateway'), authority.id('ops/*')];
  serve();
  envoys = await EnvoyPair.start(authority, { socket: host.socket, groups });
}, 300_000);
afterAll(async () => {
  envoys.close();
  await host.close();
});

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
  return new TlsPeer(deliveredIdentity((await authority.enroll(name)).dir), envoys.inbound);
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
  expect(await envoys.askThroughGateway()).toBe('served');
  expect(envoys.seen['x-forwarded-client-cert']).toContain(`URI=${authority.id('gateway')}`);
}, 120_000);

test('a caller whom the entry does not name is refused, as is one without a certificate', async () => {
  const ask = async (name: string) => (await peerOf(name)).ask();
  const strangers = await Promise.all(['stranger', 'web', 'ops', 'opsx/a'].map(ask));
  for (const refusal of strangers) expect(refusal).toMatch(/alert|closed|reset/i);
  expect(await ask('ops/a')).toBeUndefined();
  const { ca } = deliveredIdentity(gateway.dir);
  expect(await new TlsPeer({ cert: '', key: '', ca }, envoys.inbound).ask()).toBeDefined();
}, 120_000);

test('a rotation of either side fails no handshake', async () => {
  const refusals: string[] = [];
  let tries = 0;
  let isOver = false;
  const knocking = (async () => {
    const peer = await peerOf('gateway');
    while (!isOver) {
      tries += 1;
      const [direct, through] = await Promise.all([peer.ask(), envoys.askThroughGateway()]);
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
    const victim = new TlsPeer(deliveredIdentity(dir), envoys.inbound);
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
  await eventually(async () => (await envoys.askThroughGateway()) !== 'served');
  web = await authority.enroll('web');
  serve();
  await eventually(async () => (await envoys.askThroughGateway()) === 'served');
}, 120_000);

test('an entry that lets nobody call lets in nobody', async () => {
  allowed = [];
  serve();
  const peer = await peerOf('gateway');
  await eventually(async () => (await peer.ask()) !== undefined);
  expect(await envoys.askThroughGateway()).not.toBe('served');
  expect(host.notices).toEqual([]);
}, 120_000);
