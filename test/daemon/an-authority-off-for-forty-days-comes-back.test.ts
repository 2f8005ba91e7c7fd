import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:tls';
import { expect, it, onTestFailed } from 'vitest';
import { stringify } from 'yaml';
import type { AgentStatus } from '../../src/agent/daemon/status.ts';
import { parseCertificate } from '../../src/x509/certificate.ts';
import { type ParsedCrl, parseCrl } from '../../src/x509/crl.ts';
import { decodePem } from '../../src/x509/pem.ts';
import { type Authority, initAuthority, runVouch, startVouch } from '../support/daemon.ts';
import { eventually, type Running } from '../support/running.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';

// What SPIRE 5796 tells of: its server did not start once its own certificates had expired.

const days = 40;

/** An agent with an entry and a folder that its certificate is delivered to, on a host whose clock is the authority's. */
class Host {
  readonly delivered: string;
  readonly #authority: Authority;
  readonly #clock: ShiftedClock;
  readonly #name: string;
  readonly #joinFile: string;
  readonly #config: string;
  readonly #dir: string;

  constructor(authority: Authority, clock: ShiftedClock, name: string) {
    this.#authority = authority;
    this.#clock = clock;
    this.#name = name;
    this.#dir = authority.path('agent');
    this.delivered = authority.path('delivered');
    this.#joinFile = authority.path('join');
    this.#config = authority.path('config');
    const own = { joinFile: this.#joinFile, dir: this.#dir, socket: join(this.#dir, 'a.sock') };
    const deliver = [{ id: authority.id(`web/${name}`), dir: this.delivered }];
    writeFileSync(this.#config, stringify({ ...own, deliver }));
  }

  /** The operator makes an entry for it. */
  async entry(lifetime: string): Promise<void> {
    const ids = ['--id', this.#authority.id(`web/${this.#name}`), '--parent', this.#authority.id(this.#name)];
    const rest = ['--selector', 'unix:uid:54321', '--lifetime', lifetime];
    (await this.#authority.vouch('entry', 'create', ...ids, ...rest)).json();
  }

  /** The operator brings a join file, in the place of the one before. */
  async join(): Promise<void> {
    const { path } = await this.#authority.join(this.#name);
    renameSync(path, this.#joinFile);
  }

  start(): Running {
    const agent = startVouch(['agent', '--config', this.#config, '--json'], { env: this.#clock.env });
    onTestFailed(() => console.log(this.#name, agent.stderr));
    return agent;
  }

  /** Resolves to the delivered certificate once it is another than that. */
  async serial(before?: string): Promise<string> {
    const file = join(this.delivered, 'current/svid.pem');
    return eventually(() => {
      if (!existsSync(file)) return undefined;
      const [leaf = Buffer.of()] = decodePem(readFileSync(file, 'utf8'), 'CERTIFICATE');
      const { serial } = parseCertificate(leaf);
      return serial !== before && serial;
    }, 20_000);
  }

  async status(): Promise<AgentStatus> {
    const args = ['agent', 'status', '--dir', this.#dir, '--json'];
    return JSON.parse((await runVouch(args, { env: this.#clock.env })).stdout) as AgentStatus;
  }
}

/** An authority whose server and signer go by this clock, and its first start. */
async function bootWith(): Promise<{ authority: Authority; clock: ShiftedClock }> {
  const authority = await initAuthority();
  const clock = new ShiftedClock(authority.path('time'));
  // The signer is given no other environment.
  authority.configure(({ hsm }) => Object.assign(hsm.environment, clock.env));
  await authority.start({ env: clock.env });
  return { authority, clock };
}

/** A command that runs the rest of its arguments as after a reboot: within one boot such a jump of the clock is not believed. */
function afterReboot(authority: Authority): string[] {
  const bootId = authority.path('boot-id');
  writeFileSync(bootId, `${randomUUID()}\n`);
  const script = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"';
  return ['unshare', '--mount', 'sh', '-c', script, bootId];
}

async function crlsOf(authority: Authority): Promise<ParsedCrl[]> {
  const { crls } = (await authority.vouch('crl', 'show')).json<{ crls: { url: string }[] }>();
  const fetched = crls.map(async ({ url }) => Buffer.from(await (await fetch(url)).arrayBuffer()));
  return (await Promise.all(fetched)).map(parseCrl);
}

/** When the certificate that the server shows ends, Unix ms. */
async function shownUntil(authority: Authority): Promise<number> {
  const { hostname, port } = new URL(authority.server.ready.enrollmentUrl);
  const socket = connect({ host: hostname, port: Number(port), rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const shown = socket.getPeerX509Certificate();
  socket.destroy();
  return Date.parse(shown?.validTo ?? '');
}

it('after 40 days the server starts by itself, and agents, running or stopped meanwhile, say what they need', async () => {
  const { authority, clock } = await bootWith();
  const [running, stopped] = [new Host(authority, clock, 'running'), new Host(authority, clock, 'stopped')];
  const agents: Running[] = [];
  for (const host of [running, stopped]) {
    await host.entry('1h');
    await host.join();
    agents.push(host.start());
  }
  const before = [await running.serial(), await stopped.serial()];
  const crls = await crlsOf(authority);
  await agents[1]?.end();
  await authority.server.end();

  clock.set('+40d');
  const nowMs = Date.now() + days * 24 * 3_600_000;
  await authority.start({ env: clock.env, wrapper: afterReboot(authority) });
  await eventually(async () => (await fetch(`${authority.server.ready.operationsUrl}/readyz`)).ok);
  expect(await shownUntil(authority)).toBeGreaterThan(nowMs);
  const fresh = await crlsOf(authority);
  expect(fresh).toHaveLength(crls.length);
  for (const [index, { crlNumber, nextUpdateSeconds }] of fresh.entries()) {
    const old = crls[index];
    expect((old?.nextUpdateSeconds ?? 0) * 1000).toBeLessThan(nowMs);
    expect(nextUpdateSeconds * 1000).toBeGreaterThan(nowMs);
    expect(crlNumber).toBeGreaterThan(old?.crlNumber ?? 0n);
  }

  agents[1] = stopped.start();
  await agents[0]?.until(({ stderr }) =>
    stderr.includes('the certificate has expired: peers refuse it. A new join file in place of the old one'),
  );
  await agents[1].until(({ stderr }) =>
    /no identity yet: the join token has expired; .* make a new join file/.test(stderr),
  );
  expect(await running.status()).toMatchObject({
    identity: { isExpired: true },
    server: { reachable: true },
  });
  await agents[0]?.until(({ stderr }) => /web\/running has expired, and there is no other yet/.test(stderr));
  expect(agents[0]?.stderr).not.toContain('its entry is gone');
  expect([await running.serial(), await stopped.serial()]).toEqual(before);

  for (const [index, host] of [running, stopped].entries()) {
    await host.join();
    await host.serial(before[index]);
    await eventually(async () => {
      const { identity, entries } = await host.status();
      return identity?.isExpired === false && entries[0]?.served === true;
    });
  }
  expect(agents.map((agent) => agent.code)).toEqual([undefined, undefined]);
}, 120_000);

it('an agent whose own certificate alone has ended goes on with what is valid, also where its join file is refused', async () => {
  const { authority, clock } = await bootWith();
  const host = new Host(authority, clock, 'host');
  await host.entry('24h');
  await host.join();
  const agent = host.start();
  const before = await host.serial();
  await eventually(async () => (await host.status()).cache.savedAt !== null);
  await agent.end();
  await authority.server.end();

  clock.set('+3h');
  await authority.start({ env: clock.env, wrapper: afterReboot(authority) });
  const again = host.start();
  await again.until(({ stderr }) => stderr.includes('make a new join file'));
  expect(await host.serial()).toBe(before);

  await host.join();
  await eventually(async () => (await host.status()).identity?.isExpired === false, 20_000);
  await eventually(async () => (await host.status()).entries[0]?.served === true);
  expect(again.code).toBeUndefined();
}, 120_000);
