import { signalTo } from '../support/signal.ts';
import { expect, it } from 'vitest';
import { type Authority, type Delivery, initAuthority, runVouch } from '../support/daemon.ts';
import { mountOver } from '../support/mount.ts';
import { eventually, type Ran, start } from '../support/running.ts';

/** An authority whose state lies on a disk of 4 MB. */
class SmallDisk {
  readonly authority: Authority;
  readonly #inside: string[];

  private constructor(authority: Authority, inside: string[]) {
    this.authority = authority;
    this.#inside = inside;
  }

  static async make(): Promise<SmallDisk> {
    const authority = await initAuthority();
    const disk = new SmallDisk(authority, await mountOver(authority.state, 'size=4m,mode=700'));
    await disk.start();
    return disk;
  }

  async start(): Promise<void> {
    await this.authority.start({ wrapper: this.#inside });
  }

  operator(...args: readonly string[]): Promise<Ran> {
    return runVouch([...args, '--config', this.authority.config, '--json'], { wrapper: this.#inside });
  }

  async join(name: string): Promise<string> {
    const path = this.authority.path('join');
    (await this.operator('token', 'create', '--id', this.authority.id(name), '--out', path)).json();
    return path;
  }

  enroll(joinFile: string, out: string, timeout = '10'): Promise<Ran> {
    return this.authority.vouch('enroll', '--join-file', joinFile, '--out', out, '--timeout', timeout);
  }

  /** Not a byte is left. */
  async fill(): Promise<void> {
    const script = 'cat /dev/zero > "$0/fill"; df --output=avail "$0" | tail -1';
    const { stdout } = await start(['sh', '-c', script, this.authority.state], {
      wrapper: this.#inside,
    }).ended();
    expect(stdout.trim()).toBe('0');
  }

  async empty(): Promise<void> {
    await start(['rm', `${this.authority.state}/fill`], { wrapper: this.#inside }).ended();
  }

  /** What is not ready, by name. */
  async problems(): Promise<Record<string, string>> {
    const response = await fetch(`${this.authority.server.ready.operationsUrl}/readyz`);
    const { checks } = (await response.json()) as { checks: { name: string; problem?: string }[] };
    const problems = checks.flatMap(({ name, problem }) =>
      problem === undefined ? [] : [[name, problem] as const],
    );
    expect(response.status).toBe(problems.length === 0 ? 200 : 503);
    return Object.fromEntries(problems);
  }

  async crl(keyId: string): Promise<Buffer> {
    const response = await fetch(`${this.authority.server.ready.publicationUrl}/crl/${keyId}.crl`);
    expect(response.status).toBe(200);
    return Buffer.from(await response.arrayBuffer());
  }

  async expectWhole(): Promise<void> {
    expect((await this.operator('log', 'verify', '--state', this.authority.state)).json()).toMatchObject({
      problems: [],
    });
  }
}

it('refuses with what to do, serves CRLs all the same, and goes on when there is space', async () => {
  const disk = await SmallDisk.make();
  const orders = (await disk.enroll(await disk.join('early'), disk.authority.path('w'))).json<Delivery>();
  const late = await disk.join('late');
  const out = disk.authority.path('late');
  const before = await disk.crl(orders.issuerKeyId);
  await disk.fill();

  const refused = await disk.enroll(late, out, '1');
  expect(refused.code).toBe(75);
  expect(refused.problem).toMatchObject({
    code: 'unavailable-server',
    detail: expect.stringMatching(
      /the disk of the state directory is full: nothing was written; make room/,
    ) as unknown,
  });
  const revoking = await disk.operator('revoke', '--serial', orders.serial, '--reason', 'superseded');
  expect(revoking.code).toBe(75);
  expect(revoking.problem).toMatchObject({
    code: 'unavailable-store',
    detail: expect.stringContaining('make room') as unknown,
  });
  expect((await disk.crl(orders.issuerKeyId)).equals(before)).toBe(true);
  await eventually(async () => (await disk.problems()).store?.includes('make room'));

  await disk.empty();
  expect((await disk.enroll(late, out)).json()).toMatchObject({ spiffeId: disk.authority.id('late') });
  const revoked = await disk.operator('revoke', '--serial', orders.serial, '--reason', 'superseded');
  expect(revoked.json()).toMatchObject({ published: true, revoked: [{ serial: orders.serial }] });
  await eventually(async () => Object.keys(await disk.problems()).length === 0);
  await disk.expectWhole();
});

it('a signer that must start meanwhile signs nothing, says so, and comes up when there is space', async () => {
  const disk = await SmallDisk.make();
  const late = await disk.join('late');
  await disk.fill();
  signalTo(disk.authority.server.ready.signerPid, 'SIGKILL');
  await eventually(async () => (await disk.problems()).signer?.includes('is the disk full?'));
  expect((await disk.operator('status')).json()).toMatchObject({ state: 'degraded' });
  await disk.empty();
  expect((await disk.enroll(late, disk.authority.path('late'))).json()).toMatchObject({
    spiffeId: disk.authority.id('late'),
  });
  await eventually(async () => Object.keys(await disk.problems()).length === 0);
  await disk.expectWhole();
});

it('a server killed on a full disk starts again when there is space, with all that it had said yes to', async () => {
  const disk = await SmallDisk.make();
  const orders = (await disk.enroll(await disk.join('early'), disk.authority.path('w'))).json<Delivery>();
  const late = await disk.join('late');
  await disk.fill();
  await disk.enroll(late, disk.authority.path('late'), '1');
  await disk.authority.server.end('SIGKILL');
  await disk.empty();
  await disk.start();
  expect((await disk.operator('cert', 'show', orders.serial)).json()).toMatchObject({ state: 'valid' });
  expect((await disk.enroll(late, disk.authority.path('late'))).code).toBe(0);
  await disk.expectWhole();
});
