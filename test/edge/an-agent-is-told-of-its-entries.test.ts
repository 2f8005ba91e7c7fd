import { beforeAll, describe, expect, it } from 'vitest';
import { type EntriesAnswer, entriesAnswerSchema } from '../../src/wire/agent.ts';
import { type Authority, bootAuthority, type Workload } from '../support/daemon.ts';
import { type Answer, dial, problemIn, send } from './client.ts';
import { watch } from './watcher.ts';
import { limitMs } from '../support/limits.ts';

let authority: Authority;
let url: string;
let agent: Workload;
let other: Workload;

beforeAll(async () => {
  authority = await bootAuthority({
    configure: ({ enrollment }) => void (enrollment.failuresPerMinute = 10_000),
  });
  url = authority.server.ready.enrollmentUrl;
  [agent, other] = await Promise.all([authority.enroll('host/a'), authority.enroll('host/b')]);
});

const shownBy = (workload: Workload) => ({ cert: workload.read('svid.pem'), key: workload.read('svid.key') });
const ask = async (shown: object, headers = {}): Promise<Answer> =>
  send(await dial(url, shown), { method: 'GET', path: '/v1/entries', headers });
const entriesOf = async (workload: Workload): Promise<EntriesAnswer> => {
  const answer = await ask(shownBy(workload));
  expect(answer).toMatchObject({
    status: 200,
    headers: { 'content-type': expect.stringMatching(/json/) as string },
  });
  return entriesAnswerSchema.parse(JSON.parse(answer.text));
};
const create = async (name: string, parent: string, ...flags: string[]): Promise<string> => {
  const ids = ['--id', authority.id(name), '--parent', authority.id(parent)];
  const selectors = flags.includes('--selector') ? [] : ['--selector', 'unix:uid:1000'];
  const made = await authority.vouch('entry', 'create', ...ids, ...selectors, ...flags);
  return made.json<{ entryId: string }>().entryId;
};

describe('the entries of an agent', () => {
  it('are those that name it as parent, oldest first, and nobody else sees them', async () => {
    const first = await create(
      'web',
      'host/a',
      '--hint',
      'é',
      '--dns',
      'web.test.example',
      '--selector',
      'unix:user:web',
    );
    const foreign = await create('web', 'host/b');
    const second = await create('db', 'host/a', '--allow', 'spiffe://test.example/web', '--ip', '10.0.0.1');
    const mine = await entriesOf(agent);
    expect(mine.entries).toMatchObject([
      {
        ...{
          entryId: first,
          version: 1,
          spiffeId: authority.id('web'),
          selectors: ['unix:user:web'],
          hint: 'é',
        },
        ...{ dnsNames: ['web.test.example'], ipAddresses: [], allowedClients: [], suspended: false },
      },
      { entryId: second, allowedClients: ['spiffe://test.example/web'], ipAddresses: ['10.0.0.1'] },
    ]);
    expect(Math.abs((mine.entries[0]?.createdAt ?? 0) - Date.now())).toBeLessThan(60_000);
    expect((await entriesOf(other)).entries.map(({ entryId }) => entryId)).toEqual([foreign]);
    const workload = await authority.enroll('web');
    expect(
      await entriesOf(workload),
      'whoever has an identity that an agent serves is not the agent',
    ).toEqual({
      ...{ sequence: 0, entries: [] },
    });
  });

  it('are not sent again to who knows them, until they change', async () => {
    const entryId = await create('cached', 'host/a');
    const shown = shownBy(agent);
    const first = await ask(shown);
    const etag = String(first.headers.etag);
    expect(etag).toBe(`"${entriesAnswerSchema.parse(JSON.parse(first.text)).sequence}"`);
    for (const known of [etag, `W/${etag}`, `"0", ${etag}`])
      expect(await ask(shown, { 'if-none-match': known })).toMatchObject({
        status: 304,
        text: '',
        headers: { etag },
      });
    expect((await ask(shown, { 'if-none-match': '"0"' })).text).toBe(first.text);
    const head = await send(await dial(url, shown), { method: 'HEAD', path: '/v1/entries' });
    expect(head).toMatchObject({ status: 200, text: '', headers: { etag } });
    expect(Number(head.headers['content-length'])).toBe(Buffer.byteLength(first.text));
    await create('elsewhere', 'host/b');
    expect((await ask(shown, { 'if-none-match': etag })).status).toBe(304);
    for (const verb of [
      ['revoke', '--entry', entryId, '--yes'],
      ['entry', 'resume', entryId],
      ['entry', 'delete', entryId, '--yes'],
    ]) {
      const before = (await entriesOf(agent)).sequence;
      (await authority.vouch(...verb)).json();
      const after = await entriesOf(agent);
      expect(after.sequence, verb.join(' ')).toBeGreaterThan(before);
      const states = after.entries.filter((one) => one.entryId === entryId).map((one) => one.suspended);
      expect(states).toEqual(verb[0] === 'revoke' ? [true] : verb[1] === 'resume' ? [false] : []);
    }
  });

  it('are told to nobody without a certificate, or with one that does not count', async () => {
    const refused = async (shown: object) => problemIn(await ask(shown));
    expect(await refused({})).toMatchObject({ status: 401, code: 'denied-certificate' });
    const parent = await authority.enroll('host/ended');
    await create('of-the-ended', 'host/ended');
    expect((await entriesOf(parent)).entries).toHaveLength(1);
    (await authority.vouch('revoke', '--serial', parent.serial)).json();
    expect(await refused(shownBy(parent))).toMatchObject({ status: 403, code: 'denied-revoked' });
    const again = await authority.enroll('host/ended');
    const { path } = await authority.join('host/ended');
    (await authority.vouch('revoke', '--agent', authority.id('host/ended'), '--yes')).json();
    expect(await refused(shownBy(again))).toMatchObject({ status: 403, code: 'denied-revoked' });
    const anew = await authority.vouch('enroll', '--join-file', path, '--out', authority.path('anew'));
    expect(anew.problem.code, 'it comes back by no join file that it still has').toBe('denied-suspended');
    const { entries } = (
      await authority.vouch('entry', 'list', '--parent', authority.id('host/ended'))
    ).json<{
      entries: { suspendedAt: string | null }[];
    }>();
    expect(entries, 'another agent may serve them').toMatchObject([{ suspendedAt: null }]);
  });

  it('are not told through a deleted entry of the agent itself', async () => {
    const parent = await authority.enroll('host/deleted');
    const { certificate } = (await authority.vouch('explain', parent.serial)).json<{
      certificate: { entryId: string };
    }>();
    const stream = await watch(url, shownBy(parent));
    (await authority.vouch('entry', 'delete', certificate.entryId, '--yes')).json();
    await stream.closed;
    expect(problemIn(await ask(shownBy(parent)))).toMatchObject({ code: 'denied-suspended' });
  });

  it('are read only', async () => {
    const answer = await send(await dial(url, shownBy(agent)), {
      method: 'POST',
      path: '/v1/entries',
      body: '{}',
    });
    expect(answer).toMatchObject({ status: 405, headers: { allow: 'GET, HEAD' } });
  });
});

describe('a stream', () => {
  it('hears of each change within a second of it, and of those of others nothing', async () => {
    const [mine, others] = await Promise.all([watch(url, shownBy(agent)), watch(url, shownBy(other))]);
    await others.until(({ event }) => event === 'bundle');
    await mine.until(({ event }) => event === 'entries');
    const told = ({ heard }: typeof mine) => heard.filter(({ event }) => event === 'entries');
    const [before, atOthers] = [told(mine).length, told(others).length];
    const entryId = await create('told', 'host/a');
    const answeredAt = performance.now();
    await mine.until(() => told(mine).length === before + 1, 1000);
    expect(performance.now() - answeredAt).toBeLessThan(limitMs(1000));
    const verbs = [
      ['revoke', '--entry', entryId, '--yes'],
      ['entry', 'resume', entryId],
      ['entry', 'delete', entryId, '--yes'],
    ];
    for (const [at, verb] of verbs.entries()) {
      (await authority.vouch(...verb)).json();
      await mine.until(() => told(mine).length === before + 2 + at, 1000);
      const last = told(mine).at(-1);
      expect(last?.id).toBe(String(last?.data.sequence));
      expect(last?.data.sequence).toBe((await entriesOf(agent)).sequence);
    }
    expect(told(others)).toHaveLength(atOthers);
  });

  it('begins with the present sequence, where there is something to it', async () => {
    const { sequence } = await entriesOf(agent);
    const began = await watch(url, shownBy(agent));
    expect(await began.until(({ event }) => event === 'entries')).toMatchObject({ data: { sequence } });
    const nobodys = await watch(url, shownBy(await authority.enroll('nobodys-parent')));
    await nobodys.until(({ event }) => event === 'bundle');
    await create('later', 'host/a');
    await began.until(({ data }) => Number(data.sequence) > sequence);
    expect(nobodys.text()).not.toContain('event: entries');
    const back = await watch(url, { ...shownBy(agent), headers: { 'last-event-id': '0' } });
    const present = (await entriesOf(agent)).sequence;
    expect(await back.until(({ event }) => event === 'entries')).toMatchObject({
      data: { sequence: present },
    });
  });
});
