import { expect, it } from 'vitest';
import { eventually } from '../support/running.ts';
import { registered, softwareAuthority } from '../support/software-authority.ts';

it('the checkpoint that is stored does not fall where a later batch is signed first', async () => {
  const authority = await softwareAuthority();
  const { signer, sequencer, store } = authority;
  const { promise: late, resolve: answer } = Promise.withResolvers<void>();
  const grown = (by: number) => eventually(() => signer.treeSize === sizeBefore + by);
  const sizeBefore = signer.treeSize;
  signer.beforeAnswer = () => late;
  await registered(authority, 'first');
  await grown(1);
  signer.beforeAnswer = undefined;
  await registered(authority, 'second');
  await eventually(() => sequencer.checkpoint()?.treeSize === sizeBefore + 2);
  answer();
  await sequencer.close();
  expect(Number(store.checkpointNote()?.split('\n')[1])).toBe(store.treeSize());
  await authority.close();
});
