import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import { parentNotes } from '../../src/registration/parent-notes.ts';
import { type EntryRequest, WorkloadEntries } from '../../src/registration/workload-entries.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import { nothingSigned } from '../store/fixture.ts';
import {
  registered,
  type SoftwareAuthority,
  softwareAuthority,
  trustDomain,
} from '../support/software-authority.ts';
import { longestTurnMs } from '../support/turns.ts';

let authority: SoftwareAuthority;
let entries: WorkloadEntries;

beforeEach(async () => {
  authority = await softwareAuthority();
  entries = new WorkloadEntries(authority, trustDomain);
});
afterEach(() => authority.close());

const id = (name: string) => parseSpiffeId(`spiffe://${trustDomain}/${name}`);
const request = (over: Partial<EntryRequest> = {}): EntryRequest => ({
  ...{ spiffeId: id('web'), parentId: id('host/a'), selectors: ['unix:uid:1', 'unix:gid:2'] },
  ...{ dnsNames: ['web.example'], ipAddresses: [], allowedClients: [id('a'), id('b')], hint: '' },
  ...{ profile: 'default', lifetimeSeconds: undefined, ...over },
});
const create = (over?: Partial<EntryRequest>) => entries.create(request(over), 'uid:0');
const change = (event: 'suspended' | 'deleted', entryId: string) => {
  const atMs = authority.clock.now();
  const leaf = recordLeaf('entry', atMs, { event, entryId, operator: 'uid:0' });
  return event === 'suspended'
    ? authority.sequencer.record({ kind: 'entry-suspended', leaf, entryId, atMs })
    : entries.delete(entryId, 'uid:0');
};

describe('an entry that is asked for again', () => {
  test('is the one that there is, in whatever order it was said', async () => {
    const { entry, isNew } = await create();
    expect(isNew).toBe(true);
    const treeSize = authority.store.treeSize();
    for (const over of [{}, { selectors: ['unix:gid:2', 'unix:uid:1'], allowedClients: [id('b'), id('a')] }])
      expect(await create(over)).toMatchObject({
        entry: { entryId: entry.entryId },
        isNew: false,
        alike: [],
      });
    expect(authority.store.treeSize()).toBe(treeSize);
  });

  test('while it is made is made once', async () => {
    const made = await Promise.all(Array.from({ length: 5 }, () => create()));
    expect(new Set(made.map(({ entry }) => entry.entryId)).size).toBe(1);
    expect(made.map(({ isNew }) => isNew)).toEqual([true, false, false, false, false]);
  });

  test('is found among thousands of its parent, and holds nobody up', async () => {
    const { entry } = await create();
    const creation = (_: unknown, at: number) => {
      const entryId = `e_${randomBytes(8).toString('hex')}`;
      const other = { ...entry, entryId, spiffeId: id(at % 2 === 0 ? 'web' : 'db'), hint: entryId };
      const leaf = recordLeaf('entry', 0, { event: 'created', entryId });
      return { kind: 'entry-created' as const, leaf, entry: other };
    };
    for (let made = 0; made < 4000; made += 500)
      await authority.store.commitBatch(Array.from({ length: 500 }, creation), nothingSigned);
    const turns: number[] = [];
    for (let run = 0; run < 3; run += 1)
      turns.push(
        await longestTurnMs(async () => {
          expect(await create()).toMatchObject({ entry: { entryId: entry.entryId }, isNew: false });
        }),
      );
    expect(Math.min(...turns)).toBeLessThan(20);
  }, 60_000);

  test.each([
    ['DNS names', { dnsNames: ['other.example'] }],
    ['clients', { allowedClients: [] }],
    ['lifetime', { lifetimeSeconds: 600 }],
    ['hint', { hint: 'h' }],
    ['profile', { profile: 'cn-first-dns' }],
  ])('with other %s is another, beside which the first is named', async (_what, over) => {
    const { entry } = await create();
    const made = await create(over);
    expect(made.isNew).toBe(true);
    expect(made.alike.map(({ entryId }) => entryId)).toEqual([entry.entryId]);
  });

  test.each([
    ['selectors', { selectors: ['unix:uid:1'] }],
    ['parent', { parentId: id('host/b') }],
    ['identity', { spiffeId: id('db') }],
  ])('with another of %s is another, of which nothing need be said', async (_what, over) => {
    await create();
    expect(await create(over)).toMatchObject({ isNew: true, alike: [] });
  });

  test('is refused where the first is suspended, and made where that is deleted', async () => {
    const { entry } = await create();
    await change('suspended', entry.entryId);
    await expect(create()).rejects.toMatchObject({ code: 'denied-suspended' });
    await change('deleted', entry.entryId);
    expect(await create()).toMatchObject({ isNew: true, alike: [] });
  });
});

describe('of a parent is said', () => {
  const notes = (parentId: string) => parentNotes(authority.store, parseSpiffeId(parentId)).join('\n');

  test('nothing where a join token was made for it', async () => {
    await registered(authority, 'host/a');
    expect(notes(id('host/a'))).toBe('');
  });

  test('that no join token was made for it, and what is similar', async () => {
    await registered(authority, 'host/db-7');
    await create({ parentId: id('host/Web') });
    for (const slip of ['host/db7', 'host/db-70', 'host/bd-7', 'Host/DB-7'])
      expect(notes(id(slip))).toMatch(/no join token was made .*\nsimilar .*\/host\/db-7$/);
    expect(notes(id('host/web'))).toMatch(/similar .*\/host\/Web$/);
    expect(notes(id('machine/mail'))).not.toContain('similar');
  });

  test('that it is a workload', async () => {
    await create();
    expect(notes(id('web'))).toContain(`is a workload of ${id('host/a')}`);
  });

  test('that it is suspended', async () => {
    const { entry } = await registered(authority, 'host/a');
    await change('suspended', entry.entryId);
    expect(notes(id('host/a'))).toContain(`vouch entry resume --id ${id('host/a')}`);
  });
});
