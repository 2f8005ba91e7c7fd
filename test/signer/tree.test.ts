import { randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Frontier, hashLeaf, inclusionPath, rangeHasher } from '../../src/log/merkle.ts';
import { CrlNumbers } from '../../src/signer/crl-numbers.ts';
import type { Mark } from '../../src/signer/marks.ts';
import { RecentHashes } from '../../src/signer/recent.ts';
import { SignerTree } from '../../src/signer/tree.ts';

const leaves = Array.from({ length: 40 }, (_, index) => Buffer.from(`leaf ${index}`));

function frontierOf(some: readonly Buffer[]): Frontier {
  const frontier = Frontier.empty();
  for (const leaf of some) frontier.append(hashLeaf(leaf));
  return frontier;
}

function checkpointAt(size: number, some = leaves) {
  const rootHash = frontierOf(some.slice(0, size)).root();
  return { origin: 'a/b', treeSize: size, rootHash, note: '' };
}

function markAt(size: number, some = leaves): Mark {
  return {
    origin: 'a/b',
    logKeySha256: '00'.repeat(32),
    treeSize: size,
    rootHash: frontierOf(some.slice(0, size)).root(),
    crlNumbers: new CrlNumbers(),
  };
}

function resume(checkpointSize: number, size: number, marks: Mark[], some = leaves): SignerTree {
  const peaks = frontierOf(some.slice(0, checkpointSize)).peaks();
  const tree = SignerTree.resume(checkpointAt(checkpointSize, some), peaks, marks);
  for (const leaf of some.slice(checkpointSize, size)) tree.append(leaf);
  tree.finishResume();
  return tree;
}

describe('taking up the tree', () => {
  it('ends at the same root as hashing it whole, wherever the checkpoint and the marks stand', () => {
    fc.assert(
      fc.property(fc.nat(40), fc.nat(40), fc.nat(40), fc.nat(40), (a, b, c, d) => {
        const [checkpoint = 0, size = 0] = [a, b].sort((x, y) => x - y);
        const marks = [c, d].filter((at) => at <= size).map((at) => markAt(at));
        const tree = resume(checkpoint, size, marks);
        expect(tree.size).toBe(size);
        expect(tree.root()).toEqual(frontierOf(leaves.slice(0, size)).root());
      }),
    );
  });

  it('refuses a log that ends below a mark (I11)', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 40 }), fc.nat(), fc.nat(), (mark, a, b) => {
        const size = a % mark;
        const checkpoint = b % (size + 1);
        expect(() => resume(checkpoint, size, [markAt(mark)])).toThrow(
          expect.objectContaining({ code: 'integrity-rewind' }),
        );
      }),
    );
  });

  it('refuses other leaves under a mark, at the mark or on the way to it (I11)', () => {
    const forged = leaves.with(12, Buffer.from('forged'));
    expect(() => resume(10, 30, [markAt(20)], forged)).toThrow(
      expect.objectContaining({ code: 'integrity-rewind' }),
    );
    expect(() => resume(20, 30, [markAt(20)], forged)).toThrow(
      expect.objectContaining({ code: 'integrity-rewind' }),
    );
    expect(resume(10, 30, [markAt(12)], forged).size).toBe(30);
  });

  it('takes the log key at its word above a mark', () => {
    expect(resume(25, 30, [markAt(20)]).size).toBe(30);
  });

  it('refuses peaks that are not the tree of the checkpoint', () => {
    const peaks = frontierOf(leaves.slice(0, 7)).peaks();
    expect(() => SignerTree.resume(checkpointAt(8), peaks, [])).toThrow(
      expect.objectContaining({ code: 'integrity-log' }),
    );
    const other = frontierOf(leaves.slice(1, 9)).peaks();
    expect(() => SignerTree.resume(checkpointAt(8), other, [])).toThrow(
      expect.objectContaining({ code: 'integrity-log' }),
    );
    expect(() => SignerTree.resume(checkpointAt(8), [], [])).toThrow(
      expect.objectContaining({ code: 'integrity-log' }),
    );
  });

  it('names the sizes that contradict each other', () => {
    expect(() => resume(5, 9, [markAt(20)])).toThrow(/ends at 9 leaves, but this signer has signed 20/);
  });
});

describe('a leaf that is to be signed again', () => {
  const reader = {
    node: (level: number, index: number) =>
      frontierOf(leaves.slice(index << level, (index + 1) << level)).root(),
  };
  const path = (index: number, size: number) => inclusionPath(index, size, rangeHasher(reader));

  it('is found by its path in a tree that was computed here', () => {
    const tree = resume(20, 30, []);
    for (const size of [20, 30]) {
      tree.root();
      for (const index of [0, 7, 19])
        expect(
          tree.holds({
            leaf: leaves[index] ?? Buffer.alloc(0),
            index,
            treeSize: size,
            path: path(index, size),
          }),
        ).toBe(true);
    }
  });

  it('is found without a path where it was hashed here', () => {
    const tree = resume(20, 30, []);
    const claim = { index: 25, treeSize: 0, path: [] };
    expect(tree.holds({ leaf: leaves[25] ?? Buffer.alloc(0), ...claim })).toBe(true);
    expect(tree.holds({ leaf: leaves[24] ?? Buffer.alloc(0), ...claim })).toBe(false);
    expect(tree.holds({ leaf: leaves[5] ?? Buffer.alloc(0), index: 5, treeSize: 0, path: [] })).toBe(false);
  });

  it('is not found at another index, in another tree, or with another path', () => {
    const tree = resume(20, 20, []);
    const leaf = leaves[3] ?? Buffer.alloc(0);
    const good = { leaf, index: 3, treeSize: 20, path: path(3, 20) };
    expect(tree.holds(good)).toBe(true);
    expect(tree.holds({ ...good, index: 4 })).toBe(false);
    expect(tree.holds({ ...good, treeSize: 19 })).toBe(false);
    expect(tree.holds({ ...good, leaf: Buffer.from('other') })).toBe(false);
    expect(tree.holds({ ...good, path: good.path.slice(1) })).toBe(false);
    expect(tree.holds({ ...good, path: good.path.map(() => randomBytes(32)) })).toBe(false);
    expect(tree.holds({ ...good, path: good.path.map(() => Buffer.alloc(0)) })).toBe(false);
    expect(tree.knowsRoot(20)).toBe(true);
    expect(tree.knowsRoot(21)).toBe(false);
  });
});

it('the last leaves are known by their hashes, older ones are not', () => {
  const hashes = new RecentHashes(4);
  const hash = (n: number): Buffer => Buffer.alloc(32, n);
  expect(hashes.has(0, hash(0))).toBe(false);
  for (let index = 10; index < 17; index += 1) hashes.set(index, hash(index));
  const known = Array.from({ length: 20 }, (_, index) => index).filter((index) =>
    hashes.has(index, hash(index)),
  );
  expect(known).toEqual([13, 14, 15, 16]);
  expect(hashes.has(16, hash(15))).toBe(false);
});
