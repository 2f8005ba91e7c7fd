import { beforeAll, describe, expect, it } from 'vitest';
import { type Authority, bootAuthority, runVouch } from '../support/daemon.ts';

let authority: Authority;

beforeAll(async () => {
  authority = await bootAuthority();
});

interface Entry {
  entryId: string;
  selectors: string[];
}

const host = 'host/db-7';
const selector = ['--selector', 'unix:uid:1000'];
const create = (name: string, ...flags: string[]) =>
  authority.vouch(
    ...['entry', 'create', '--id', authority.id(name), '--parent', authority.id(host)],
    ...flags,
  );

describe('an entry of an agent', () => {
  it('is shown and listed as it was made, and says in words what it is', async () => {
    const made = (
      await create(
        ...(['cache', '--selector', 'unix:user:cache', '--selector', 'unix:path:/usr/bin/cache'] as const),
        ...['--dns', 'cache.test.example', '--ip', '10.0.0.1', '--allow', 'spiffe://test.example/web/*'],
        ...['--hint', 'the cache', '--profile', 'cn-first-dns', '--lifetime', '10m'],
      )
    ).json<Entry & { created: boolean; notes: string[] }>();
    expect(made).toMatchObject({
      ...{ entryId: expect.stringMatching(/^e_[0-9a-f]{16}$/) as unknown, spiffeId: authority.id('cache') },
      ...{ parentId: authority.id(host), selectors: ['unix:user:cache', 'unix:path:/usr/bin/cache'] },
      ...{ dnsNames: ['cache.test.example'], ipAddresses: ['10.0.0.1'], hint: 'the cache' },
      ...{ allowedClients: ['spiffe://test.example/web/*'], profile: 'cn-first-dns', lifetimeSeconds: 600 },
      ...{ version: 1, suspendedAt: null },
    });
    const { created, notes, ...row } = made;
    expect(created).toBe(true);
    expect(notes.join()).toContain(`no join token was made for ${authority.id(host)} yet`);
    expect((await authority.vouch('entry', 'show', made.entryId)).json()).toEqual(row);
    const other = (await create('other', ...selector)).json<Entry>();
    const listed = async (...by: string[]) =>
      (await authority.vouch('entry', 'list', ...by)).json<{ entries: Entry[] }>().entries;
    const ofHost = await listed('--parent', authority.id(host));
    expect(ofHost.map(({ entryId }) => entryId)).toEqual([other.entryId, made.entryId]);
    expect(await listed('--parent', authority.id('host/else'))).toEqual([]);
    const { stdout } = await runVouch(['entry', 'show', made.entryId, '--config', authority.config]);
    expect(stdout).toMatch(/^selectors +unix:user:cache unix:path:\/usr\/bin\/cache$/m);
  });

  it('is made once, however often a pipeline asks, and says so', async () => {
    const { path } = await authority.join('host/ci');
    expect(path).toBeTruthy();
    const again = () => create('again', '--parent', authority.id('host/ci'), ...selector);
    const first = (await again()).json<Entry>();
    expect(first).toMatchObject({ created: true, notes: [] });
    const note = `${first.entryId} says all of this already: nothing was made`;
    expect((await again()).json()).toEqual({ ...first, created: false, notes: [note] });
    const args = ['entry', 'create', '--id', authority.id('again'), '--parent', authority.id('host/ci')];
    const ran = await runVouch([...args, ...selector, '--config', authority.config]);
    expect(ran).toMatchObject({ code: 0, stderr: `note: ${note}\n` });
    expect(ran.stdout).toMatch(new RegExp(`^entry +${first.entryId}$`, 'm'));
  });

  it('takes who may call it by the flag of `vouch token create`, too, which takes its', async () => {
    const clients = [authority.id('a'), authority.id('b')];
    const flags = ['--allow', clients[0]!, '--allowed-client', clients[1]!];
    expect((await create('called', ...selector, ...flags)).json()).toMatchObject({ allowedClients: clients });
    await authority.join('called-too', ...flags);
    const { entries } = (await authority.vouch('entry', 'list', '--id', authority.id('called-too'))).json<{
      entries: object[];
    }>();
    expect(entries).toMatchObject([{ allowedClients: clients }]);
  });

  it.each([
    ['its own parent', ['--id', 'spiffe://test.example/host/db-7', ...selector], /its own parent/],
    ['a name of Vouch', ['--id', 'spiffe://test.example/vouch/server', ...selector], /reserved/],
    ['another trust domain', ['--id', 'spiffe://other.example/a', ...selector], /outside the trust domain/],
    ['a parent elsewhere', ['--parent', 'spiffe://other.example/a', ...selector], /outside the trust domain/],
    ['no name for the profile', ['--profile', 'cn-first-dns', ...selector], /needs a first DNS name/],
  ])('with %s is refused', async (_what, flags, why) => {
    const ran = await create('bad', ...flags);
    expect(ran.code).toBe(1);
    expect(ran.problem).toMatchObject({ code: 'request-malformed' });
    expect(ran.problem.detail).toMatch(why);
  });

  it('is made for no suspended identity', async () => {
    (await create('ended', ...selector)).json();
    (await authority.vouch('revoke', '--id', authority.id('ended'), '--yes')).json();
    expect((await create('ended', ...selector)).problem).toMatchObject({ code: 'denied-suspended' });
  });
});

it('on a terminal a revocation by name says that nothing is issued until it is resumed', async () => {
  const { entryId } = (await create('held', ...selector)).json<Entry>();
  const said = async (...args: string[]) =>
    (await runVouch([...args, '--config', authority.config])).stdout.split('\n');
  const ofEntry = `suspended: nothing is issued until \`vouch entry resume ${entryId}\``;
  expect(await said('revoke', '--entry', entryId)).toContain(ofEntry);
  expect(await said('release', '--entry', entryId)).toContain(ofEntry);
  expect(await said('revoke', '--id', authority.id('held'))).toContain(
    `suspended: nothing is issued until \`vouch entry resume --id ${authority.id('held')}\``,
  );
  (await authority.vouch('entry', 'delete', entryId, '--yes')).json();
  expect((await said('revoke', '--entry', entryId)).join()).not.toContain('resume');
});

describe('a deletion', () => {
  it('needs --yes without a terminal, says what goes on to count, and how to end that', async () => {
    const workload = await authority.enroll('orders');
    const { certificate } = (await authority.vouch('explain', workload.serial)).json<{
      certificate: { entryId: string };
    }>();
    const { entryId } = certificate;
    const remove = ['entry', 'delete', entryId];
    expect(await authority.vouch(...remove)).toMatchObject({ code: 2, problem: { code: 'usage-confirm' } });
    expect((await authority.vouch(...remove, '--yes')).json()).toMatchObject({
      ...{ entryId, spiffeId: authority.id('orders'), parentId: null },
      ...{ certificateCount: 1, validUntil: workload.delivery.notAfter },
    });
    const resumed = await authority.vouch('entry', 'resume', entryId);
    expect(resumed.problem).toMatchObject({
      code: 'request-not-found',
      detail: expect.stringContaining('was deleted, which is for good') as string,
    });
    for (const args of [
      ['entry', 'show', entryId],
      [...remove, '--yes'],
    ]) {
      const { problem } = await authority.vouch(...args);
      expect(problem.code).toBe('request-not-found');
      expect(problem.detail).toContain(`vouch revoke --entry ${entryId}`);
    }
    const { stdout } = await runVouch(['explain', workload.serial, '--config', authority.config]);
    expect(stdout).toMatch(new RegExp(`^entry +${entryId}, deleted since$`, 'm'));
    expect((await authority.vouch('renew', '--dir', workload.dir)).problem).toMatchObject({
      code: 'denied-suspended',
    });
    const { revoked } = (await authority.vouch('revoke', '--entry', entryId)).json<{
      revoked: { serial: string }[];
    }>();
    expect(revoked).toMatchObject([{ serial: workload.serial }]);
  });

  it('of what never was is refused, as a page behind it is', async () => {
    const never = 'e_0123456789abcdef';
    for (const args of [
      ['delete', never, '--yes'],
      ['show', never],
    ]) {
      const { problem } = await authority.vouch('entry', ...args);
      expect(problem).toMatchObject({ code: 'request-not-found' });
      expect(problem.detail).toContain('vouch entry list');
    }
  });
});

it('the record holds up with entries made, suspended, resumed and deleted', async () => {
  const { entryId } = (await create('audited', ...selector)).json<Entry>();
  (await authority.vouch('revoke', '--entry', entryId, '--yes')).json();
  (await authority.vouch('entry', 'resume', entryId)).json();
  (await authority.vouch('entry', 'delete', entryId, '--yes')).json();
  const { records } = (await authority.vouch('audit', '--limit', '1000')).json<{
    records: { entryId?: string; event?: string }[];
  }>();
  const events = records.filter((record) => record.entryId === entryId).map(({ event }) => event);
  expect(events).toEqual(['created', 'suspended', 'resumed', 'deleted']);
  const verified = (await authority.vouch('log', 'verify', '--state', authority.state)).json();
  expect(verified).toMatchObject({ problems: [] });
});
