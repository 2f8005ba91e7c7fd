import { X509Certificate } from 'node:crypto';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { beforeAll, expect, it } from 'vitest';
import { type Authority, bootAuthority, startVouch } from '../support/daemon.ts';
import type { Ran, StartOptions } from '../support/running.ts';
import { ShiftedClock } from '../support/shifted-clock.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

/** A container: its join file, its volume, and what each of its lives runs. */
class Container {
  readonly joinFile: string;
  readonly dir = authority.path('volume');
  readonly name: string;

  private constructor(name: string, joinFile: string) {
    this.name = name;
    this.joinFile = joinFile;
  }

  static async make(name: string): Promise<Container> {
    return new Container(name, (await authority.join(name)).path);
  }

  /** A short life. */
  live(options: StartOptions = {}, ...flags: readonly string[]): Promise<Ran> {
    const command = ['exec', '--join-file', this.joinFile, '--out', this.dir, '--timeout', '3', ...flags];
    return startVouch([...command, '--', 'echo', 'lived'], options).ended();
  }

  get serial(): string {
    return new X509Certificate(readFileSync(`${this.dir}/current/svid.pem`)).serialNumber.toLowerCase();
  }
}

const lived = { code: 0, stdout: 'lived\n' };
it('with its used join file it renews, again and again', async () => {
  const container = await Container.make('restarts');
  const serials = new Set<string>();
  for (let life = 0; life < 3; life += 1) {
    expect(await container.live()).toMatchObject(lived);
    serials.add(container.serial);
  }
  expect(serials.size).toBe(3);
  const { certificates } = (await authority.vouch('cert', 'list', '--id', authority.id('restarts'))).json<{
    certificates: { serial: string; lineage: string }[];
  }>();
  expect(certificates.map(({ serial }) => serial)).toEqual([...serials].reverse());
  expect(new Set(certificates.map(({ lineage }) => lineage)).size).toBe(1);
});

it('even where the join file is gone', async () => {
  const container = await Container.make('tidy');
  expect(await container.live()).toMatchObject(lived);
  rmSync(container.joinFile);
  expect(await container.live()).toMatchObject(lived);
});

it('with a used token and nothing there: exit 78, and what to do', async () => {
  const container = await Container.make('forgetful');
  expect(await container.live()).toMatchObject(lived);
  rmSync(container.dir, { recursive: true });
  const ran = await container.live();
  expect(ran).toMatchObject({ code: 78, stdout: '' });
  expect(ran.stderr).toMatch(
    /make a new join file with `vouch token create`, or keep .* on a volume that outlives the container/,
  );
});

it('with a used token and an expired certificate: exit 78', async () => {
  const container = await Container.make('late');
  expect(await container.live()).toMatchObject(lived);
  const clock = new ShiftedClock(authority.path('time'));
  clock.set('+2h');
  const ran = await container.live({ env: clock.env });
  expect(ran).toMatchObject({ code: 78, stdout: '' });
  expect(ran.stderr).toContain('vouch token create');
});

it('with the server away it starts with what it has', async () => {
  const container = await Container.make('patient');
  expect(await container.live()).toMatchObject(lived);
  const { serial } = container;
  await authority.server.end();
  const ran = await container.live();
  expect(ran).toMatchObject(lived);
  expect(ran.stderr).toMatch(/cannot renew now .*starting with the certificate in/);
  expect(container.serial).toBe(serial);
  await authority.start();
  expect(await container.live()).toMatchObject(lived);
  expect(container.serial).not.toBe(serial);
});

it('with the server away and nothing there: exit 75', async () => {
  const container = await Container.make('early');
  await authority.server.end();
  const ran = await container.live();
  expect(ran).toMatchObject({ code: 75, stdout: '' });
  expect(ran.stderr).toMatch(/trying again in .*gave up after/s);
  await authority.start();
  expect(await container.live()).toMatchObject(lived);
});

it('revoked it does not start, until there is a new join file', async () => {
  const container = await Container.make('revoked');
  expect(await container.live()).toMatchObject(lived);
  (await authority.vouch('revoke', '--serial', container.serial, '--reason', 'keyCompromise')).json();
  const ran = await container.live();
  expect(ran).toMatchObject({ code: 1, stdout: '' });
  expect(ran.stderr).toMatch(/revoked.*\[denied-revoked\]/);

  const fresh = await authority.join('revoked');
  writeFileSync(container.joinFile, readFileSync(fresh.path));
  expect(await container.live()).toMatchObject(lived);
});
