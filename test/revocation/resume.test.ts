import { expect, test } from 'vitest';
import { OperatorVerbs } from '../../src/operator/verbs.ts';
import { recordLeaf } from '../../src/sequencer/record.ts';
import { registered, softwareAuthority } from '../support/software-authority.ts';

test('two operators who resume one entry at once both did it', async () => {
  const authority = await softwareAuthority();
  const { entry } = await registered(authority);
  const { entryId } = entry;
  const leaf = recordLeaf('entry', authority.clock.now(), { event: 'suspended', entryId });
  const atMs = authority.clock.now();
  await authority.sequencer.record({ kind: 'entry-suspended', entryId, atMs, leaf });
  const verbs = new OperatorVerbs({ ...authority } as unknown as ConstructorParameters<
    typeof OperatorVerbs
  >[0]);
  const resume = () => verbs.resumeEntries({ entryId }, 'uid:0');
  expect(await Promise.all([resume(), resume()])).toEqual([{ resumed: [entryId] }, { resumed: [entryId] }]);
  expect(authority.store.entry(entryId)?.suspendedAtMs).toBeUndefined();
  await authority.close();
});
