import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import type { RegistrationEntry } from '../../src/core/registration.ts';
import { entriesOfParentMax } from '../../src/core/registration.ts';
import { parseSpiffeId } from '../../src/core/spiffe-id.ts';
import { requireAgent } from '../../src/enrollment/client-certificate.ts';
import { AgentEntries } from '../../src/registration/agent-entries.ts';
import { createSqliteStore, type SqliteStore } from '../../src/store/sqlite/store.ts';
import { entriesAnswerSchema } from '../../src/wire/agent.ts';
import { committed, entry, identity, leaf, nothingSigned, outcomeOf } from '../store/fixture.ts';
import { temporaryDirectory } from '../store/sqlite/state.ts';
import { longestTurnMs } from '../support/turns.ts';

const parentId = parseSpiffeId('spiffe://example.test/host/a');
let directory: ReturnType<typeof temporaryDirectory>;
let store: SqliteStore;

beforeEach(() => {
  directory = temporaryDirectory();
  store = createSqliteStore(join(directory.path, 'vouch.db'), identity);
});
afterEach(async () => {
  await store.close();
  directory.remove();
});

const creation = (over: Partial<RegistrationEntry> = {}) => ({
  ...{ kind: 'entry-created' as const, leaf: leaf() },
  entry: entry({ parentId, ...over }),
});
const answerOf = async (entries: AgentEntries, sequence: number) =>
  Buffer.concat(await entries.answerOf(parentId, sequence)).toString();

test('as many as a parent can have hold nobody up, and one more is refused', async () => {
  const names = Array.from({ length: 10 }, (_, at) => `orders-${at}.example.test`);
  for (let made = 0; made < entriesOfParentMax; made += 500)
    await store.commitBatch(
      Array.from({ length: 500 }, () => creation({ dnsNames: names })),
      nothingSigned,
    );
  expect(await outcomeOf(store, creation())).toMatchObject({ status: 'refused', code: 'policy-conflict' });
  let text = '';
  const turns: number[] = [];
  for (let run = 0; run < 3; run += 1) {
    const entries = new AgentEntries(store);
    turns.push(
      await longestTurnMs(async () => {
        text = await answerOf(entries, entries.sequenceOf(parentId));
      }),
    );
  }
  expect(Math.min(...turns)).toBeLessThan(20);
  expect(entriesAnswerSchema.parse(JSON.parse(text)).entries).toHaveLength(entriesOfParentMax);
}, 60_000);

test('are encoded once for all who ask, and anew after a change', async () => {
  await committed(store, creation());
  const entries = new AgentEntries(store);
  const before = entries.sequenceOf(parentId);
  const [one, two] = [entries.answerOf(parentId, before), entries.answerOf(parentId, before)];
  expect(await two).toBe(await one);
  expect(entries.answerOf(parentId, before)).toBe(one);
  await committed(store, creation());
  const after = entries.sequenceOf(parentId);
  expect(after).toBeGreaterThan(before);
  const { sequence, entries: told } = entriesAnswerSchema.parse(JSON.parse(await answerOf(entries, after)));
  expect([sequence, told.length]).toEqual([after, 2]);
});

test('the last answer is kept for all who ask also where it is larger than what is kept, others go', async () => {
  const other = parseSpiffeId('spiffe://example.test/host/b');
  for (const parent of [parentId, other]) await committed(store, creation({ parentId: parent }));
  const entries = new AgentEntries(store, 1);
  const ask = (agent: typeof other) => entries.answerOf(agent, entries.sequenceOf(agent));
  const first = await ask(parentId);
  expect(await ask(parentId)).toBe(first);
  await ask(other);
  expect(await ask(parentId)).not.toBe(first);
});

test('only who enrolled itself is an agent', () => {
  const standing = { entryId: 'e_1', agent: undefined } as Parameters<typeof requireAgent>[0];
  requireAgent(standing);
  for (const over of [{ agent: parentId }, { entryId: undefined }])
    expect(() => requireAgent({ ...standing, ...over })).toThrow(
      expect.objectContaining({ code: 'denied-certificate' }),
    );
});
