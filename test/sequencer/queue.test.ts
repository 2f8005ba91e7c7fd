import { expect, it } from 'vitest';
import { Queue } from '../../src/sequencer/queue.ts';
import type { Mutation } from '../../src/store/port.ts';

const limits = { mutations: 4, bytes: 100 };

/** Only kind and sizes count here. */
function waiting(kind: Mutation['kind'], leafBytes: number, tbsBytes = 0) {
  const mutation = { kind, leaf: { bytes: Buffer.alloc(leafBytes), hash: Buffer.alloc(32) } } as Mutation;
  return { submission: { mutation, ...(tbsBytes > 0 && { tbs: Buffer.alloc(tbsBytes) }) } };
}

function sizesOf(batch: readonly ReturnType<typeof waiting>[]): number[] {
  return batch.map(({ submission }) => submission.mutation.leaf.bytes.length);
}

it('a batch holds no more mutations than it may', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  for (let size = 1; size <= 6; size += 1) queue.push(waiting('certificate', size));
  expect(sizesOf(queue.take(limits, true))).toEqual([1, 2, 3, 4]);
  expect(sizesOf(queue.take(limits, true))).toEqual([5, 6]);
  expect(queue.size).toBe(0);
});

it('a full CRL and its shards, too large for one message together, go in several, in their order', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  for (const [leaf, tbs] of [
    [1, 500],
    [2, 40],
    [3, 40],
    [4, 40],
  ] as const)
    queue.push(waiting('crl', leaf, tbs));
  expect(sizesOf(queue.take(limits, true))).toEqual([1]);
  expect(sizesOf(queue.take(limits, true))).toEqual([2, 3]);
  expect(sizesOf(queue.take(limits, true))).toEqual([4]);
  expect(queue.take(limits, true)).toEqual([]);
});

it('what ends something comes first, and alone where the signer has no room', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  queue.push(waiting('certificate', 1));
  queue.push(waiting('revocation', 2));
  queue.push(waiting('token-revoked', 3));
  expect(sizesOf(queue.take(limits, false))).toEqual([2, 3]);
  expect(queue.take(limits, false)).toEqual([]);
  queue.push(waiting('revocation', 4));
  expect(sizesOf(queue.take(limits, true))).toEqual([4, 1]);
});
