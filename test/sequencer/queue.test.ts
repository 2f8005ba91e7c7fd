import { expect, it } from 'vitest';
import { Queue } from '../../src/sequencer/queue.ts';
import type { Mutation } from '../../src/store/port.ts';

const most = 4;

/** Only kind, sizes and whether a token is used count here. */
function waiting(kind: Mutation['kind'], leafBytes: number, tokenUse?: object) {
  const leaf = { bytes: Buffer.alloc(leafBytes), hash: Buffer.alloc(32) };
  return { submission: { mutation: { kind, leaf, tokenUse } as Mutation } };
}

function sizesOf(batch: readonly ReturnType<typeof waiting>[]): number[] {
  return batch.map(({ submission }) => submission.mutation.leaf.bytes.length);
}

it('a batch holds no more mutations than it may', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  for (let size = 1; size <= 6; size += 1) queue.push(waiting('certificate', size));
  expect(sizesOf(queue.take(most, 'all'))).toEqual([1, 2, 3, 4]);
  expect(sizesOf(queue.take(most, 'all'))).toEqual([5, 6]);
  expect(queue.size).toBe(0);
});

it('what ends something comes first, and alone where the signer has no room', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  queue.push(waiting('certificate', 1));
  queue.push(waiting('revocation', 2));
  queue.push(waiting('token-revoked', 3));
  expect(sizesOf(queue.take(most, 'none'))).toEqual([2, 3]);
  expect(queue.take(most, 'none')).toEqual([]);
  queue.push(waiting('revocation', 4));
  expect(sizesOf(queue.take(most, 'all'))).toEqual([4, 1]);
});

const enrollment = (size: number) => waiting('certificate', size, { tokenId: 't', atMs: 0 });
const renewal = (size: number) => waiting('certificate', size);

it('CRLs come before renewals and records, those before first enrollments', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  for (const item of [enrollment(1), enrollment(2), renewal(3), waiting('token', 4), waiting('crl', 5)])
    queue.push(item);
  // Alone: a revocation waits for it, and its batch is answered when all of it is signed.
  expect(sizesOf(queue.take(most, 'all'))).toEqual([5]);
  expect(sizesOf(queue.take(most, 'all'))).toEqual([3, 4, 1, 2]);
});

it('first enrollments have a quarter of each batch, however many renewals come', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  for (let size = 1; size <= 3; size += 1) queue.push(enrollment(size));
  for (let size = 11; size <= 16; size += 1) queue.push(renewal(size));
  expect(sizesOf(queue.take(most, 'all'))).toEqual([11, 12, 13, 1]);
  expect(sizesOf(queue.take(most, 'all'))).toEqual([14, 15, 16, 2]);
  // What the others leave is theirs, too.
  for (let size = 4; size <= 6; size += 1) queue.push(enrollment(size));
  expect(sizesOf(queue.take(most, 'all'))).toEqual([3, 4, 5, 6]);
});

it('a CRL goes where certificates have to wait for room', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  queue.push(renewal(1));
  expect(queue.has('crls')).toBe(false);
  expect(queue.take(most, 'crls')).toEqual([]);
  queue.push(waiting('crl', 2));
  queue.push(waiting('revocation', 3));
  expect([queue.has('none'), queue.has('crls')]).toEqual([true, true]);
  expect(sizesOf(queue.take(most, 'crls'))).toEqual([3, 2]);
  expect([queue.has('crls'), queue.has('all')]).toEqual([false, true]);
});

it('tells who waits for it that a CRL or an ending came', async () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  for (const kind of ['crl', 'revocation'] as const) {
    const came = queue.urgent();
    queue.push(renewal(1));
    queue.push(waiting(kind, 2));
    await came;
  }
});

it('lets go of what waited too long, once', () => {
  const queue = new Queue<ReturnType<typeof waiting>>();
  const items = [renewal(1), enrollment(2), renewal(3)];
  for (const item of items) queue.push(item);
  expect(items.slice(0, 2).map((item) => queue.drop(item))).toEqual([true, true]);
  expect(items.slice(0, 2).map((item) => queue.drop(item))).toEqual([false, false]);
  expect(sizesOf(queue.take(most, 'all'))).toEqual([3]);
});
