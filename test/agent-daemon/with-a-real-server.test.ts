import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createPrivateKey, X509Certificate } from 'node:crypto';
import {
  type JwtSvidResponse,
  type ValidateResponse,
  WorkloadClient,
  type X509SvidResponse,
} from '../conformance/workload-api/client.ts';
import { type Authority, bootAuthority, runVouch, startVouch } from '../support/daemon.ts';
import { eventually } from '../support/running.ts';
import { Daemon } from './support/daemon.ts';
import { limitMs } from '../support/limits.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

/** An entry of the agent's; resolves to its id when the operator has his answer. */
async function entry(name: string, agent: string, ...flags: string[]): Promise<string> {
  const ids = ['--id', authority.id(name), '--parent', authority.id(agent)];
  const selectors = flags.includes('--selector') ? [] : ['--selector', 'unix:uid:54321'];
  const made = await authority.vouch('entry', 'create', ...ids, ...selectors, ...flags);
  return made.json<{ entryId: string }>().entryId;
}

/** A daemon in this process with an identity of its own. */
async function daemon(agent: string, dir = authority.path('agent')): Promise<Daemon> {
  const { path } = await authority.join(agent);
  const running = new Daemon(dir, path);
  onTestFinished(() => running.end());
  return running;
}

/** How long until this is served, in milliseconds. */
async function until(agent: Daemon, ...names: string[]): Promise<number> {
  const started = performance.now();
  await agent.serves(...names);
  return performance.now() - started;
}

describe('from the operator’s answer to what the agent serves', () => {
  test('a new entry, a suspended, a resumed and a deleted one take less than a second', async () => {
    const first = await entry('web', 'host/a', '--dns', 'web.test.example');
    const agent = await daemon('host/a');
    await agent.serves('web');
    const took: number[] = [];
    await agent.until(() => agent.daemon.isLive);
    await entry('db', 'host/a');
    took.push(await until(agent, 'web', 'db'));
    const [svid] = agent.now!.svids;
    const leaf = new X509Certificate(svid!.chain[0]!);
    expect(leaf.subjectAltName).toContain('DNS:web.test.example');
    expect(
      leaf.checkPrivateKey(createPrivateKey({ key: svid!.keyPkcs8, format: 'der', type: 'pkcs8' })),
    ).toBe(true);
    (await authority.vouch('revoke', '--entry', first, '--reason', 'keyCompromise', '--yes')).json();
    took.push(await until(agent, 'db'));
    (await authority.vouch('entry', 'resume', first)).json();
    took.push(await until(agent, 'web', 'db'));
    expect(agent.now!.svids[0]!.serial).not.toBe(svid!.serial);
    (await authority.vouch('entry', 'delete', first, '--yes')).json();
    took.push(await until(agent, 'db'));
    for (const ms of took) expect(ms).toBeLessThan(limitMs(1000));
  });

  test('a revoked certificate is gone within a second, and a fresh one of another lineage is there', async () => {
    await entry('cache', 'host/b');
    const agent = await daemon('host/b');
    const [before] = (await agent.serves('cache')).svids;
    await agent.until(() => agent.daemon.isLive);
    (
      await authority.vouch('revoke', '--serial', before!.serial, '--reason', 'keyCompromise', '--yes')
    ).json();
    const started = performance.now();
    await agent.until(() => agent.now?.svids[0]?.serial !== before!.serial);
    await agent.serves('cache');
    expect(performance.now() - started).toBeLessThan(limitMs(1000));
    expect(agent.notices.join('\n')).toContain(`serial ${before!.serial}); no longer served`);
  });

  test('`vouch cert renew-now` renews what is held of an entry or identity, and no other', async () => {
    const mail = await entry('mail', 'host/f');
    await entry('news', 'host/f');
    const agent = await daemon('host/f');
    await agent.serves('mail', 'news');
    await agent.until(() => agent.daemon.isLive);
    const serials = () => agent.now!.svids.map(({ serial }) => serial);
    for (const [flag, value] of [
      ['--entry', mail],
      ['--id', authority.id('mail')],
    ] as const) {
      const before = serials();
      const told = (await authority.vouch('cert', 'renew-now', flag, value)).json<{ told: number }>();
      expect(told.told).toBe(1);
      const started = performance.now();
      await agent.until(() => serials()[0] !== before[0]);
      expect(performance.now() - started).toBeLessThan(limitMs(1000));
      expect(serials()[1]).toBe(before[1]);
    }
  });

  test('what names another agent is never seen', async () => {
    const [mine, other] = await Promise.all([daemon('host/c'), daemon('host/d')]);
    await entry('c', 'host/c');
    await entry('d', 'host/d');
    await Promise.all([mine.serves('c'), other.serves('d')]);
    expect(mine.changes.flatMap(({ svids }) => svids).map(({ spiffeId }) => spiffeId)).not.toContain(
      authority.id('d'),
    );
  });
});

describe('the program', () => {
  test('says when it is ready and what it holds, ends on SIGTERM with 0, and goes on where it was', async () => {
    await entry('api', 'host/e');
    const { path } = await authority.join('host/e');
    const dir = authority.path('agent');
    const socket = join(dir, 'agent.sock');
    const flags = ['agent', '--join-file', path, '--dir', dir, '--socket', socket, '--json'];
    const agent = startVouch(flags);
    const line = await agent.until(({ stdout }) => stdout.includes('\n') && stdout);
    expect(JSON.parse(line)).toEqual({
      event: 'ready',
      spiffeId: authority.id('host/e'),
      socket,
      pid: agent.pid,
      entries: 1,
    });
    await eventually(async () => {
      const { stdout } = await runVouch(['agent', 'status', '--dir', dir]);
      return stdout.includes('1 registration entries, 1 served') && stdout.includes('changes are told');
    });
    expect(await agent.end('SIGTERM')).toBe(0);
    const ran = await runVouch(['agent', 'status', '--dir', dir, '--json']);
    expect(ran.code).toBe(1);
    expect(JSON.parse(ran.stdout)).toMatchObject({
      running: false,
      identity: { spiffeId: authority.id('host/e') },
    });
    const again = startVouch(flags);
    const { pid } = JSON.parse(await again.until(({ stdout }) => stdout.includes('\n') && stdout));
    expect(pid).toBe(again.pid);
    expect(await again.end('SIGTERM')).toBe(0);
  });

  test('without a join file ends with 78, and with a flag that it does not know with 2', async () => {
    const dir = authority.path('agent');
    expect((await runVouch(['agent', '--join-file', '/no/such', '--dir', dir])).code).toBe(78);
    expect((await runVouch(['agent', '--nonsense'])).code).toBe(2);
    expect((await runVouch(['agent', 'status', '--dir', dir])).code).toBe(78);
  });
});

describe('a workload at the socket', () => {
  test('is given what its own user is named for, a JWT too, hears of a new entry and of the end of one', async () => {
    const own = ['--selector', `unix:uid:${process.getuid?.()}`];
    const first = await entry('mine', 'host/f', ...own);
    await entry('foreign', 'host/f');
    const { path } = await authority.join('host/f');
    const dir = authority.path('agent');
    const socket = join(dir, 'agent.sock');
    const agent = startVouch(['agent', '--join-file', path, '--dir', dir, '--socket', socket, '--json']);
    await agent.until(({ stdout }) => stdout.includes('\n'));
    const client = new WorkloadClient(socket);
    onTestFinished(() => client.close());
    const stream = client.stream<X509SvidResponse>('FetchX509SVID');
    const names = ({ svids }: X509SvidResponse) => svids.map(({ spiffe_id: id }) => id);
    expect(names(await stream.next())).toEqual([authority.id('mine')]);
    const minted = await client.unary<JwtSvidResponse>('FetchJWTSVID', { audience: ['orders'] });
    const token = minted.svids[0]!.svid;
    const valid = await client.unary<ValidateResponse>('ValidateJWTSVID', {
      audience: 'orders',
      svid: token,
    });
    expect(valid.spiffe_id).toBe(authority.id('mine'));
    await entry('second', 'host/f', ...own);
    expect(names(await stream.next())).toEqual([authority.id('mine'), authority.id('second')]);
    (await authority.vouch('entry', 'delete', first, '--yes')).json();
    expect(names(await stream.next())).toEqual([authority.id('second')]);
    expect(await agent.end('SIGTERM')).toBe(0);
    await expect(stream.next()).rejects.toThrow(/UNAVAILABLE|OK/);
  });

  test('that is refused is told nothing, and the log says which entry names it and that it is suspended', async () => {
    const selectors = [`unix:uid:${process.getuid?.()}`, `unix:path:${realpathSync(process.execPath)}`];
    const held = await entry('held', 'host/g', ...selectors.flatMap((one) => ['--selector', one]));
    (await authority.vouch('revoke', '--entry', held, '--yes')).json();
    const { path } = await authority.join('host/g');
    const dir = authority.path('agent');
    const socket = join(dir, 'agent.sock');
    const agent = startVouch(['agent', '--join-file', path, '--dir', dir, '--socket', socket]);
    await agent.until(({ stdout }) => stdout.includes('\n'));
    const client = new WorkloadClient(socket);
    onTestFinished(() => client.close());
    await expect(client.stream<X509SvidResponse>('FetchX509SVID').next()).rejects.toThrow(
      /no identity issued$/,
    );
    const named = `; ${held} makes it ${authority.id('held')}, without a certificate: the entry is suspended`;
    await agent.until(({ stderr }) => stderr.includes(named));
    expect(agent.stderr).toContain(`suspended, not served: ${authority.id('held')} (entry ${held})`);
    expect(await agent.end('SIGTERM')).toBe(0);
  });
});
