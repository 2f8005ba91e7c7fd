import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  consistencyPath,
  emptyRoot,
  Frontier,
  hashLeaf,
  hashNode,
  inclusionPath,
  type NodeReader,
  peakRanges,
  rangeHasher,
  rootFromInclusion,
  verifyConsistency,
  verifyInclusion,
} from '../../src/log/merkle.ts';
import { numberedLeaves, referenceConsistency, referencePath, referenceRoot } from './reference-tree.ts';
import { refusal } from './refusal.ts';

const bytes = (hex: string) => Buffer.from(hex, 'hex');
const hexOf = (path: readonly Buffer[]) => path.map((hash) => hash.toString('hex'));

/** The tree of the certificate-transparency reference tests. */
const vectorLeaves = [
  '',
  '00',
  '10',
  '2021',
  '3031',
  '40414243',
  '5051525354555657',
  '606162636465666768696a6b6c6d6e6f',
].map(bytes);
const vectorRoots = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
];
const vectorPaths = [
  { index: 0, size: 1, path: [] },
  {
    index: 0,
    size: 8,
    path: [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  },
  {
    index: 5,
    size: 8,
    path: [
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  },
  { index: 2, size: 3, path: ['fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125'] },
  {
    index: 1,
    size: 5,
    path: [
      '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  },
];
const vectorConsistency = [
  { from: 1, to: 1, path: [] },
  {
    from: 1,
    to: 8,
    path: [
      '96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7',
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      '6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4',
    ],
  },
  {
    from: 6,
    to: 8,
    path: [
      '0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a',
      'ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0',
      'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
    ],
  },
  {
    from: 2,
    to: 5,
    path: [
      '5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e',
      'bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b',
    ],
  },
];

/** Complete subtrees hashed from the leaves, remembered. */
function readerOf(leaves: readonly Buffer[]): NodeReader {
  const nodes = new Map<string, Buffer>();
  const node = (level: number, index: number): Buffer => {
    const key = `${level}/${index}`;
    const leaf = leaves[index];
    const made =
      nodes.get(key) ??
      (level === 0 && leaf
        ? hashLeaf(leaf)
        : hashNode(node(level - 1, 2 * index), node(level - 1, 2 * index + 1)));
    nodes.set(key, made);
    return made;
  };
  return { node };
}

function frontierOf(leaves: readonly Buffer[]): Frontier {
  const frontier = Frontier.empty();
  for (const leaf of leaves) frontier.append(hashLeaf(leaf));
  return frontier;
}

describe('RFC 6962 reference vectors', () => {
  const hasher = rangeHasher(readerOf(vectorLeaves));

  it('has the known empty root and leaf hash', () => {
    expect(emptyRoot.toString('hex')).toBe(
      'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
    );
    expect(hashLeaf(Buffer.alloc(0)).toString('hex')).toBe(vectorRoots[0]);
    expect(Frontier.empty().root()).toEqual(emptyRoot);
  });

  it('gives the known roots', () => {
    const roots = vectorRoots.map((_, i) =>
      frontierOf(vectorLeaves.slice(0, i + 1))
        .root()
        .toString('hex'),
    );
    expect(roots).toEqual(vectorRoots);
  });

  it.each(vectorPaths)('gives the known path of leaf $index in $size', ({ index, size, path }) => {
    expect(hexOf(inclusionPath(index, size, hasher))).toEqual(path);
    const leafHash = hashLeaf(vectorLeaves[index] as Buffer);
    const rootHash = bytes(vectorRoots[size - 1] as string);
    expect(verifyInclusion({ index, treeSize: size, leafHash, path: path.map(bytes), rootHash })).toBe(true);
  });

  it.each(vectorConsistency)('gives the known consistency proof of $from to $to', ({ from, to, path }) => {
    expect(hexOf(consistencyPath(from, to, hasher))).toEqual(path);
    const roots = {
      oldRoot: bytes(vectorRoots[from - 1] as string),
      newRoot: bytes(vectorRoots[to - 1] as string),
    };
    expect(verifyConsistency({ oldSize: from, newSize: to, ...roots, path: path.map(bytes) })).toBe(true);
  });
});

describe('against the recursive reference', () => {
  it('agrees for every size, leaf and older size up to 70', () => {
    const leaves = numberedLeaves(70);
    const roots = leaves.map((_, i) => referenceRoot(leaves.slice(0, i + 1)));
    const hasher = rangeHasher(readerOf(leaves));
    const frontier = Frontier.empty();
    for (let size = 1; size <= 70; size++) {
      frontier.append(hashLeaf(leaves[size - 1] as Buffer));
      const slice = leaves.slice(0, size);
      const newRoot = roots[size - 1] as Buffer;
      expect(frontier.root()).toEqual(newRoot);
      expect(Frontier.fromPeaks(size, frontier.peaks()).root()).toEqual(newRoot);
      for (let index = 0; index < size; index++) {
        const path = inclusionPath(index, size, hasher);
        expect(hexOf(path)).toEqual(hexOf(referencePath(index, slice)));
        expect(
          verifyInclusion({
            index,
            treeSize: size,
            leafHash: hashLeaf(slice[index] as Buffer),
            path,
            rootHash: newRoot,
          }),
        ).toBe(true);
      }
      for (let oldSize = 1; oldSize <= size; oldSize++) {
        const path = consistencyPath(oldSize, size, hasher);
        expect(hexOf(path)).toEqual(hexOf(referenceConsistency(oldSize, slice)));
        expect(
          verifyConsistency({ oldSize, newSize: size, oldRoot: roots[oldSize - 1] as Buffer, newRoot, path }),
        ).toBe(true);
      }
    }
  });

  it('agrees for random sizes up to 3,000', () => {
    const leaves = numberedLeaves(3000);
    const hasher = rangeHasher(readerOf(leaves));
    const pair = fc.tuple(fc.integer({ min: 1, max: 3000 }), fc.integer({ min: 1, max: 3000 }));
    fc.assert(
      fc.property(pair, ([a, b]) => {
        const [older, size] = a < b ? [a, b] : [b, a];
        const slice = leaves.slice(0, size);
        const rootHash = referenceRoot(slice);
        const index = older - 1;
        const path = inclusionPath(index, size, hasher);
        expect(frontierOf(slice).root()).toEqual(rootHash);
        expect(hexOf(path)).toEqual(hexOf(referencePath(index, slice)));
        expect(
          verifyInclusion({
            index,
            treeSize: size,
            leafHash: hashLeaf(slice[index] as Buffer),
            path,
            rootHash,
          }),
        ).toBe(true);
        const proof = consistencyPath(older, size, hasher);
        expect(hexOf(proof)).toEqual(hexOf(referenceConsistency(older, slice)));
        const oldRoot = referenceRoot(leaves.slice(0, older));
        expect(
          verifyConsistency({ oldSize: older, newSize: size, oldRoot, newRoot: rootHash, path: proof }),
        ).toBe(true);
      }),
      { numRuns: 60 },
    );
  });
});

describe('a proof for anything else', () => {
  const leaves = numberedLeaves(21);
  const hasher = rangeHasher(readerOf(leaves));
  const rootOf = (size: number) => frontierOf(leaves.slice(0, size)).root();

  it('is refused for every other leaf and index', () => {
    for (let size = 1; size <= 21; size++)
      for (let index = 0; index < size; index++)
        for (let claimed = 0; claimed < 21; claimed++)
          for (const leaf of [index, claimed]) {
            const path = inclusionPath(index, size, hasher);
            const leafHash = hashLeaf(leaves[leaf] as Buffer);
            const verdict = verifyInclusion({
              index: claimed,
              treeSize: size,
              leafHash,
              path,
              rootHash: rootOf(size),
            });
            expect(verdict).toBe(claimed === index);
          }
  });

  it('is refused for every other pair of sizes', () => {
    for (let newSize = 1; newSize <= 12; newSize++)
      for (let oldSize = 1; oldSize <= newSize; oldSize++) {
        const path = consistencyPath(oldSize, newSize, hasher);
        for (let otherOld = 1; otherOld <= 12; otherOld++)
          for (let otherNew = 1; otherNew <= 12; otherNew++) {
            if (otherOld === oldSize && otherNew === newSize) continue;
            const proof = {
              oldSize: otherOld,
              newSize: otherNew,
              oldRoot: rootOf(otherOld),
              newRoot: rootOf(otherNew),
              path,
            };
            const isOwn =
              hexOf(consistencyPath(Math.min(otherOld, otherNew), otherNew, hasher)).join() ===
              hexOf(path).join();
            expect(verifyConsistency(proof)).toBe(otherOld <= otherNew && isOwn);
          }
      }
  });

  it('is refused with any bit flipped, a step too many, too few, or two swapped', () => {
    fc.assert(
      fc.property(fc.integer({ min: 2, max: 21 }), fc.nat(), fc.nat(), fc.nat(7), (size, at, where, bit) => {
        const index = at % size;
        const path = inclusionPath(index, size, hasher);
        const proof = {
          index,
          treeSize: size,
          leafHash: hashLeaf(leaves[index] as Buffer),
          path,
          rootHash: rootOf(size),
        };
        const step = path[where % path.length] as Buffer;
        const flipped = Buffer.from(step);
        flipped[where % 32] = (flipped[where % 32] as number) ^ (1 << bit);
        expect(
          verifyInclusion({ ...proof, path: path.map((hash) => (hash === step ? flipped : hash)) }),
        ).toBe(false);
        expect(verifyInclusion({ ...proof, path: path.slice(1) })).toBe(false);
        expect(verifyInclusion({ ...proof, path: path.slice(0, -1) })).toBe(false);
        expect(verifyInclusion({ ...proof, path: [...path, step] })).toBe(false);
        const reversed = verifyInclusion({ ...proof, path: path.toReversed() });
        expect(reversed).toBe(path.length === 1);
      }),
    );
  });

  it('is refused when a consistency proof is altered', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 21 }),
        fc.nat(),
        fc.nat(),
        fc.nat(7),
        (newSize, at, where, bit) => {
          const oldSize = 1 + (at % (newSize - 1));
          const path = consistencyPath(oldSize, newSize, hasher);
          const proof = { oldSize, newSize, oldRoot: rootOf(oldSize), newRoot: rootOf(newSize), path };
          const altered = path.map((hash) => Buffer.from(hash));
          const step = altered[where % altered.length] as Buffer;
          step[where % 32] = (step[where % 32] as number) ^ (1 << bit);
          expect(verifyConsistency(proof)).toBe(true);
          expect(verifyConsistency({ ...proof, path: altered })).toBe(false);
          expect(verifyConsistency({ ...proof, path: path.slice(1) })).toBe(false);
          expect(verifyConsistency({ ...proof, path: path.slice(0, -1) })).toBe(false);
          expect(verifyConsistency({ ...proof, path: [...path, step] })).toBe(false);
          expect(verifyConsistency({ ...proof, oldRoot: rootOf(newSize) })).toBe(false);
          expect(verifyConsistency({ ...proof, newRoot: rootOf(oldSize) })).toBe(false);
          expect(verifyConsistency({ ...proof, oldSize: newSize, newSize: oldSize })).toBe(false);
        },
      ),
    );
  });

  it('is refused when the claimed size is too small or too large for its steps', () => {
    const leafHash = hashLeaf(leaves[1] as Buffer);
    const sibling = hashLeaf(leaves[0] as Buffer);
    expect(verifyInclusion({ index: 0, treeSize: 1, leafHash, path: [sibling], rootHash: rootOf(2) })).toBe(
      false,
    );
    expect(verifyInclusion({ index: 1, treeSize: 3, leafHash, path: [sibling], rootHash: rootOf(2) })).toBe(
      false,
    );
    const claim = (oldSize: number, newSize: number, realOld: number, realNew: number) =>
      verifyConsistency({
        oldSize,
        newSize,
        oldRoot: rootOf(realOld),
        newRoot: rootOf(realNew),
        path: consistencyPath(realOld, realNew, hasher),
      });
    expect(claim(7, 8, 7, 8)).toBe(true);
    expect(claim(3, 4, 7, 8)).toBe(false);
    expect(claim(2, 3, 2, 3)).toBe(true);
    expect(claim(2, 5, 2, 3)).toBe(false);
  });

  it('is refused when a leaf is offered as an interior node', () => {
    const [left, right] = [hashLeaf(Buffer.from('a')), hashLeaf(Buffer.from('b'))];
    const forged = Buffer.concat([left, right]);
    const rootHash = hashNode(left, right);
    expect(verifyInclusion({ index: 0, treeSize: 1, leafHash: hashLeaf(forged), path: [], rootHash })).toBe(
      false,
    );
  });
});

describe('hostile numbers and shapes', () => {
  const hash = Buffer.alloc(32, 7);
  const hostile = [-1, 0.5, Number.NaN, Infinity, -Infinity, 2 ** 53, 2 ** 60, Number.MAX_VALUE];
  const hugePath = Array.from({ length: 53 }, () => hash);

  it.each(hostile)('answers false for %d', (n) => {
    for (const proof of [
      { index: n, treeSize: 5 },
      { index: 0, treeSize: n },
      { index: n, treeSize: n },
    ])
      expect(verifyInclusion({ ...proof, leafHash: hash, path: hugePath, rootHash: hash })).toBe(false);
    for (const sizes of [
      { oldSize: n, newSize: 5 },
      { oldSize: 1, newSize: n },
      { oldSize: n, newSize: n },
    ])
      expect(verifyConsistency({ ...sizes, oldRoot: hash, newRoot: hash, path: hugePath })).toBe(false);
  });

  it('answers false past the end, for the empty tree and for paths without end', () => {
    const long = Array.from({ length: 1_000_000 }, () => hash);
    expect(verifyInclusion({ index: 0, treeSize: 0, leafHash: hash, path: [], rootHash: emptyRoot })).toBe(
      false,
    );
    expect(verifyInclusion({ index: 5, treeSize: 5, leafHash: hash, path: [hash], rootHash: hash })).toBe(
      false,
    );
    expect(verifyInclusion({ index: 0, treeSize: 5, leafHash: hash, path: long, rootHash: hash })).toBe(
      false,
    );
    expect(verifyConsistency({ oldSize: 1, newSize: 5, oldRoot: hash, newRoot: hash, path: long })).toBe(
      false,
    );
  });

  it('goes through the largest tree and back', () => {
    const last = Number.MAX_SAFE_INTEGER - 1;
    for (const index of [0, 1, 2 ** 52, 2 ** 33 + 1, last]) {
      const subtree = new Map<string, Buffer>();
      const node = (level: number, at: number) => {
        const key = `${level}/${at}`;
        const made = subtree.get(key) ?? createHash('sha256').update(key).digest();
        subtree.set(key, made);
        return made;
      };
      const path = inclusionPath(index, last + 1, rangeHasher({ node }));
      const rootHash = rootFromInclusion({ index, treeSize: last + 1, leafHash: node(0, index), path });
      expect(rootHash).toBeDefined();
      expect(path.length).toBeLessThanOrEqual(53);
      expect(
        verifyInclusion({
          index,
          treeSize: last + 1,
          leafHash: node(0, index),
          path: path.slice(1),
          rootHash: rootHash as Buffer,
        }),
      ).toBe(false);
    }
  });

  it('answers false for hashes that are none', () => {
    const bad: unknown[] = [
      undefined,
      null,
      'a'.repeat(32),
      Buffer.alloc(31),
      Buffer.alloc(33),
      Buffer.alloc(0),
      Array.from({ length: 32 }, () => 0),
      32,
    ];
    for (const value of bad) {
      const wrong = value as Buffer;
      expect(verifyInclusion({ index: 0, treeSize: 1, leafHash: wrong, path: [], rootHash: hash })).toBe(
        false,
      );
      expect(verifyInclusion({ index: 0, treeSize: 1, leafHash: hash, path: [], rootHash: wrong })).toBe(
        false,
      );
      expect(verifyInclusion({ index: 0, treeSize: 2, leafHash: hash, path: [wrong], rootHash: hash })).toBe(
        false,
      );
      expect(verifyConsistency({ oldSize: 1, newSize: 2, oldRoot: wrong, newRoot: hash, path: [hash] })).toBe(
        false,
      );
      expect(verifyConsistency({ oldSize: 1, newSize: 2, oldRoot: hash, newRoot: wrong, path: [hash] })).toBe(
        false,
      );
      expect(verifyConsistency({ oldSize: 1, newSize: 2, oldRoot: hash, newRoot: hash, path: [wrong] })).toBe(
        false,
      );
    }
    for (const path of [undefined, null, {}, 'x', { length: 1, 0: hash }])
      expect(
        verifyInclusion({
          index: 0,
          treeSize: 2,
          leafHash: hash,
          path: path as unknown as Buffer[],
          rootHash: hash,
        }),
      ).toBe(false);
  });

  it('never throws, whatever the proof', () => {
    const anything = fc.oneof(
      fc.anything(),
      fc.integer(),
      fc.uint8Array({ minLength: 32, maxLength: 32 }).map((b) => Buffer.from(b)),
    );
    const path = fc.oneof(fc.array(anything), anything);
    fc.assert(
      fc.property(anything, anything, anything, anything, path, (a, b, c, d, p) => {
        const claim = { index: a, treeSize: b, leafHash: c, rootHash: d, path: p };
        expect(verifyInclusion(claim as unknown as Parameters<typeof verifyInclusion>[0])).toBe(false);
        const grown = { oldSize: a, newSize: b, oldRoot: c, newRoot: d, path: p };
        expect(typeof verifyConsistency(grown as unknown as Parameters<typeof verifyConsistency>[0])).toBe(
          'boolean',
        );
      }),
      { numRuns: 500 },
    );
  });
});

describe('consistency at the edges', () => {
  const root = hashLeaf(Buffer.from('a'));

  it('takes the empty tree as a prefix of any, with its own root and no steps', () => {
    expect(verifyConsistency({ oldSize: 0, newSize: 9, oldRoot: emptyRoot, newRoot: root, path: [] })).toBe(
      true,
    );
    expect(verifyConsistency({ oldSize: 0, newSize: 9, oldRoot: root, newRoot: root, path: [] })).toBe(false);
    expect(
      verifyConsistency({ oldSize: 0, newSize: 9, oldRoot: emptyRoot, newRoot: root, path: [root] }),
    ).toBe(false);
    expect(
      verifyConsistency({ oldSize: 0, newSize: 0, oldRoot: emptyRoot, newRoot: emptyRoot, path: [] }),
    ).toBe(true);
    expect(verifyConsistency({ oldSize: 0, newSize: 0, oldRoot: root, newRoot: root, path: [] })).toBe(false);
  });

  it('takes equal sizes only with equal roots and no steps', () => {
    expect(verifyConsistency({ oldSize: 4, newSize: 4, oldRoot: root, newRoot: root, path: [] })).toBe(true);
    expect(verifyConsistency({ oldSize: 4, newSize: 4, oldRoot: root, newRoot: emptyRoot, path: [] })).toBe(
      false,
    );
    expect(verifyConsistency({ oldSize: 4, newSize: 4, oldRoot: root, newRoot: root, path: [root] })).toBe(
      false,
    );
  });

  it('takes no empty proof between different sizes', () => {
    for (const [oldSize, newSize] of [
      [1, 2],
      [2, 4],
      [4, 8],
      [3, 4],
    ] as const)
      expect(verifyConsistency({ oldSize, newSize, oldRoot: root, newRoot: root, path: [] })).toBe(false);
  });
});

describe('Frontier', () => {
  it('refuses peaks that do not fit the size', () => {
    const peak = Buffer.alloc(32);
    const refused = refusal('integrity-log');
    for (const [size, peaks] of [
      [0, [peak]],
      [1, []],
      [3, [peak]],
      [4, [peak, peak]],
      [-1, []],
      [0.5, []],
      [2 ** 53, [peak]],
      [1, [Buffer.alloc(31)]],
    ] as const)
      expect(() => Frontier.fromPeaks(size, peaks)).toThrow(refused);
    expect(Frontier.fromPeaks(0, []).root()).toEqual(emptyRoot);
  });

  it('clones into an independent tree and hands out its peaks as a copy', () => {
    const frontier = frontierOf(numberedLeaves(5));
    const before = frontier.root();
    const clone = frontier.clone();
    clone.append(hashLeaf(Buffer.from('x')));
    frontier.peaks().pop();
    expect(frontier.size).toBe(5);
    expect(clone.size).toBe(6);
    expect(frontier.root()).toEqual(before);
    expect(clone.root()).toEqual(referenceRoot([...numberedLeaves(5), Buffer.from('x')]));
  });

  it('grows past 2^32 leaves', () => {
    const peak = Buffer.alloc(32, 1);
    const frontier = Frontier.fromPeaks(2 ** 40 + 1, [peak, peak]);
    frontier.append(peak);
    expect(frontier.peaks()).toEqual([peak, hashNode(peak, peak)]);
    expect(peakRanges(2 ** 40 + 2)).toEqual([
      { level: 40, start: 0 },
      { level: 1, start: 2 ** 40 },
    ]);
  });
});
