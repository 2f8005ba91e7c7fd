import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  consistencyPath,
  emptyRoot,
  Frontier,
  hashLeaf,
  hashNode,
  inclusionPath,
  rangeHasher,
  verifyConsistency,
  verifyInclusion,
} from '../../src/log/merkle.ts';
import { entryBundle, parseEntryBundle, parseTilePath, TileTree, tilePath } from '../../src/log/tiles.ts';
import { MemoryTiles } from './memory-tiles.ts';
import { refusal } from './refusal.ts';

const integrityLog = refusal('integrity-log');

/** Leaf hashes that differ, made quickly. */
function leafHashes(count: number): Buffer[] {
  const all = Buffer.alloc(count * 32, 0xa5);
  return Array.from({ length: count }, (_, i) => {
    all.writeUInt32BE(i, i * 32);
    return all.subarray(i * 32, i * 32 + 32);
  });
}

const hashes = leafHashes(66_000);
const source = (from: number, to: number) => hashes.slice(from, to);
/** Roots by the frontier, which the merkle tests hold against the recursive reference. */
const roots: Buffer[] = [emptyRoot];
const peaks: Buffer[][] = [[]];
const frontier = Frontier.empty();
for (const hash of hashes) {
  frontier.append(hash);
  roots.push(frontier.root());
  peaks.push(frontier.peaks());
}
const rootAt = (size: number) => roots[size] as Buffer;

function grown(size: number, io = new MemoryTiles()): { tree: TileTree; io: MemoryTiles } {
  const tree = new TileTree(io, 0);
  tree.append(hashes.slice(0, size));
  tree.flush();
  return { tree, io };
}

const boundaries = [0, 1, 2, 255, 256, 257, 511, 512, 513, 65_535, 65_536, 65_537];

describe('TileTree', () => {
  it('has the right root and peaks at every size while it grows, in batches of any length', () => {
    const tree = new TileTree(new MemoryTiles(), 0);
    expect(tree.root()).toEqual(emptyRoot);
    for (let size = 0, step = 1; size < 66_000; step = (step % 97) + 1) {
      const batch = hashes.slice(size, size + step);
      tree.append(batch);
      size += batch.length;
      expect(tree.size).toBe(size);
      expect(tree.root().equals(rootAt(size))).toBe(true);
    }
    for (const size of [...boundaries, 12_345]) {
      expect(tree.root(size)).toEqual(rootAt(size));
      expect(tree.peaks(size)).toEqual(peaks[size]);
    }
  });

  it.each(boundaries)('is the same tree when reloaded at %d, and grows on', (size) => {
    const { tree, io } = grown(size);
    const again = new TileTree(io, size, source);
    expect(again.root()).toEqual(rootAt(size));
    expect(again.peaks()).toEqual(tree.peaks());
    again.append(hashes.slice(size, size + 300));
    expect(again.root()).toEqual(rootAt(size + 300));
    again.flush();
    expect(new TileTree(io, size + 300, source).root()).toEqual(rootAt(size + 300));
  });

  it('is the same tree when reloaded at any size, also at one that the tiles have outgrown', () => {
    const { io } = grown(66_000);
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 66_000 }), (size) => {
        expect(new TileTree(io, size, source).root()).toEqual(rootAt(size));
      }),
      { numRuns: 20 },
    );
  });

  it('proves leaves and older trees across tile boundaries', () => {
    const { io } = grown(66_000);
    const tree = new TileTree(io, 66_000, source);
    const hasher = rangeHasher(tree);
    for (const size of boundaries.slice(1))
      for (const index of [0, 1, 254, 255, 256, 257, 65_534, 65_535, 65_536].filter((i) => i < size)) {
        const path = inclusionPath(index, size, hasher);
        expect(
          verifyInclusion({
            index,
            treeSize: size,
            leafHash: hashes[index] as Buffer,
            path,
            rootHash: rootAt(size),
          }),
        ).toBe(true);
      }
    for (const newSize of boundaries)
      for (const oldSize of boundaries.filter((older) => older <= newSize)) {
        const path = consistencyPath(oldSize, newSize, hasher);
        expect(
          verifyConsistency({ oldSize, newSize, oldRoot: rootAt(oldSize), newRoot: rootAt(newSize), path }),
        ).toBe(true);
      }
  });

  it('proves random leaves and sizes', () => {
    const { io } = grown(5_000);
    const tree = new TileTree(io, 5_000, source);
    const hasher = rangeHasher(tree);
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 5_000 }), fc.nat(), (size, at) => {
        const index = at % size;
        const path = inclusionPath(index, size, hasher);
        expect(
          verifyInclusion({
            index,
            treeSize: size,
            leafHash: hashes[index] as Buffer,
            path,
            rootHash: rootAt(size),
          }),
        ).toBe(true);
        const proof = consistencyPath(index, size, hasher);
        expect(
          verifyConsistency({
            oldSize: index,
            newSize: size,
            oldRoot: rootAt(index),
            newRoot: rootAt(size),
            path: proof,
          }),
        ).toBe(true);
      }),
    );
  });

  it('keeps a proof right while the tree grows under it', () => {
    const tree = new TileTree(new MemoryTiles(), 0);
    tree.append(hashes.slice(0, 300));
    const hasher = rangeHasher(tree);
    for (let size = 300; size < 900; size += 37) {
      tree.append(hashes.slice(size, size + 37));
      const path = inclusionPath(299, 300, hasher);
      expect(
        verifyInclusion({
          index: 299,
          treeSize: 300,
          leafHash: hashes[299] as Buffer,
          path,
          rootHash: rootAt(300),
        }),
      ).toBe(true);
      const later = inclusionPath(size, size + 37, hasher);
      expect(
        verifyInclusion({
          index: size,
          treeSize: size + 37,
          leafHash: hashes[size] as Buffer,
          path: later,
          rootHash: rootAt(size + 37),
        }),
      ).toBe(true);
    }
  });

  it('fails with integrity-log where a full tile is missing and no store can give its leaves', () => {
    const { io } = grown(65_536);
    io.files.delete('0/7');
    expect(() => new TileTree(io, 256 * 9)).toThrow(integrityLog);
    const tree = new TileTree(io, 65_536);
    expect(tree.root()).toEqual(rootAt(65_536));
    expect(() => inclusionPath(7 * 256, 65_536, rangeHasher(tree))).toThrow(integrityLog);
    expect(() => tree.tile(0, 7, 256)).toThrow(integrityLog);
    expect(tree.tile(0, 6, 256)).toEqual(Buffer.concat(hashes.slice(6 * 256, 7 * 256)));
    io.files.delete('1/0');
    expect(() => new TileTree(io, 65_536)).toThrow(integrityLog);
  });

  it('rebuilds missing tiles from the store and writes them with the next flush', () => {
    const { io } = grown(65_600);
    const before = new Map(io.files);
    for (const key of ['0/255', '0/3', '1/0']) io.files.delete(key);
    const tree = new TileTree(io, 65_600, source);
    expect(tree.root()).toEqual(rootAt(65_600));
    const path = inclusionPath(800, 65_600, rangeHasher(tree));
    expect(
      verifyInclusion({
        index: 800,
        treeSize: 65_600,
        leafHash: hashes[800] as Buffer,
        path,
        rootHash: rootAt(65_600),
      }),
    ).toBe(true);
    expect(tree.flush()).toBe(3);
    expect(io.files).toEqual(before);
    const none = new MemoryTiles();
    const fresh = new TileTree(none, 65_600, source);
    fresh.flush();
    expect(fresh.root()).toEqual(rootAt(65_600));
    expect(none.files).toEqual(before);
  });

  it('fails with integrity-log on a tile with any bit changed, and on one of a wrong length', () => {
    const { io } = grown(65_537);
    const damage = (key: string, at: number, check: () => void) => {
      const good = io.files.get(key) as Buffer;
      const bad = Buffer.from(good);
      bad[at] = (bad[at] as number) ^ 1;
      io.files.set(key, bad);
      check();
      io.files.set(key, good);
    };
    for (const at of [0, 4000, 8191]) {
      damage('0/5', at, () => {
        const tree = new TileTree(io, 65_537, source);
        expect(() => tree.node(0, 5 * 256)).toThrow(integrityLog);
      });
      // What the right edge is loaded from has nothing above it but the root, which the caller compares.
      damage('1/0', at, () => expect(new TileTree(io, 65_537, source).root()).not.toEqual(rootAt(65_537)));
    }
    const tree = new TileTree(io, 65_537, source);
    for (const length of [0, 32, 8191, 8193]) {
      io.files.set('0/9', Buffer.alloc(length));
      expect(() => tree.node(0, 9 * 256)).toThrow(integrityLog);
    }
    io.files.set('0/9', Buffer.alloc(8192));
    expect(() => tree.node(0, 9 * 256)).toThrow(integrityLog);
    expect(() => tree.node(0, 9 * 256)).toThrow(integrityLog);
    io.files.set('0/9', Buffer.concat(hashes.slice(9 * 256, 10 * 256)));
    expect(tree.node(0, 9 * 256)).toEqual(hashes[9 * 256]);
  });

  it('fails with integrity-log where the store lacks leaf hashes', () => {
    const { io } = grown(300);
    expect(() => new TileTree(io, 300, () => [])).toThrow(integrityLog);
    expect(
      () => new TileTree(io, 300, (from, to) => hashes.slice(from, to).map((hash) => hash.subarray(1))),
    ).toThrow(integrityLog);
    expect(() => new TileTree(io, 300)).toThrow(/source of leaf hashes/);
  });

  it('writes each full tile once, lower levels first, and keeps what could not be written', () => {
    const io = new MemoryTiles();
    const tree = new TileTree(io, 0);
    tree.append(hashes.slice(0, 255));
    expect(tree.flush()).toBe(0);
    tree.append(hashes.slice(255, 700));
    io.failWrites = true;
    expect(() => tree.flush()).toThrow('disk full');
    expect(tree.node(8, 0)).toEqual(new TileTree(new MemoryTiles(), 512, source).node(8, 0));
    io.failWrites = false;
    expect(tree.flush()).toBe(2);
    expect(tree.flush()).toBe(0);
    tree.append(hashes.slice(700, 65_536));
    tree.flush();
    expect(io.written.length).toBe(257);
    expect(new Set(io.written).size).toBe(257);
    expect(io.written.at(-1)).toBe('1/0');
    expect(io.files.get('0/255')).toEqual(Buffer.concat(hashes.slice(65_280, 65_536)));
  });

  it('serves full and partial tiles of every level, and nothing beyond them', () => {
    const { tree } = grown(65_600);
    expect(tree.tile(0, 256, 64)).toEqual(Buffer.concat(hashes.slice(65_536, 65_600)));
    expect(tree.tile(0, 256, 3).length).toBe(96);
    expect(tree.tile(0, 0, 12)).toEqual(Buffer.concat(hashes.slice(0, 12)));
    expect(tree.tile(1, 0, 256).subarray(0, 32)).toEqual(rootAt(256));
    expect(tree.tile(2, 0, 1)).toEqual(rootAt(65_536));
    const notFound = refusal('request-not-found');
    for (const [level, index, width] of [
      [0, 256, 65],
      [0, 257, 1],
      [0, 2 ** 52, 1],
      [1, 1, 1],
      [2, 0, 2],
      [3, 0, 1],
      [63, 0, 1],
      [0, 0, 0],
      [0, 0, 257],
    ] as const)
      expect(() => tree.tile(level, index, width)).toThrow(notFound);
    expect(() => grown(0).tree.tile(0, 0, 1)).toThrow(notFound);
  });

  it('hands out tiles and peaks as copies', () => {
    const { tree } = grown(300);
    tree.tile(0, 1, 44).fill(0);
    for (const peak of tree.peaks()) peak.fill(0);
    expect(tree.root()).toEqual(rootAt(300));
  });

  it('reads at most the tiles of one path for an old leaf', () => {
    const { io } = grown(66_000);
    const tree = new TileTree(io, 66_000, source);
    for (let index = 0; index < 65_536; index += 1024) inclusionPath(index, 66_000, rangeHasher(tree));
    io.reads = 0;
    for (let index = 0; index < 256; index++) inclusionPath(300 + (index % 200), 66_000, rangeHasher(tree));
    expect(io.reads).toBeLessThanOrEqual(1);
  });

  it('proves a recent leaf of a tree of 1,000,000 in less than 100 µs', () => {
    const size = 1_000_000;
    const tree = new TileTree(new MemoryTiles(), 0);
    const block = leafHashes(10_000);
    for (let size = 0; size < 1_000_000; size += block.length) tree.append(block);
    tree.flush();
    const proveBatch = () => {
      const hasher = rangeHasher(tree);
      const start = performance.now();
      for (let i = 0; i < 64; i++) inclusionPath(size - 1 - i, size, hasher);
      return ((performance.now() - start) * 1000) / 64;
    };
    expect(Math.min(proveBatch(), proveBatch(), proveBatch())).toBeLessThan(100);
  });
});

describe('tile paths', () => {
  it('are those of C2SP', () => {
    expect(tilePath(0, 0)).toBe('tile/0/000');
    expect(tilePath(0, 1234067)).toBe('tile/0/x001/x234/067');
    expect(tilePath(1, 1234, 12)).toBe('tile/1/x001/234.p/12');
    expect(tilePath('entries', 999, 255)).toBe('tile/entries/999.p/255');
    expect(tilePath(0, 1000, 256)).toBe('tile/0/x001/000');
  });

  it('parse back', () => {
    const level = fc.oneof(fc.integer({ min: 0, max: 63 }), fc.constant('entries' as const));
    fc.assert(
      fc.property(level, fc.maxSafeNat(), fc.integer({ min: 1, max: 256 }), (l, index, width) => {
        expect(parseTilePath(tilePath(l, index, width))).toEqual({ level: l, index, width });
      }),
    );
  });

  it.each([
    'tile/0/0',
    'tile/0/00',
    'tile/00/000',
    'tile/64/000',
    'tile/-1/000',
    'tile/0/x000/000',
    'tile/0/x001/x234',
    'tile/0/001/234',
    'tile/0/000.p/0',
    'tile/0/000.p/256',
    'tile/0/000.p/01',
    'tile/0/000.p/',
    'tile/0/000.p',
    '/tile/0/000',
    'tile/0/000/',
    'tile/0/../000',
    'tile/0/000\n',
    'tile/0/X001/234',
    'tile/0/%30%30%30',
    'tile/data/000',
    'tile/0/x999/x999/x999/x999/x999/999',
    '',
    'tile/0/x001/234.p/1.p/1',
  ])('refuse %j', (path) => {
    expect(parseTilePath(path)).toBeUndefined();
  });
});

describe('entry bundles', () => {
  it('carry any leaf and parse back', () => {
    const leaves = [Buffer.alloc(0), Buffer.from('a'), Buffer.alloc(65_535, 1)];
    const bundle = entryBundle(leaves);
    expect(bundle.subarray(0, 5).toString('hex')).toBe('0000000161');
    expect(parseEntryBundle(bundle)).toEqual(leaves);
    expect(parseEntryBundle(Buffer.alloc(0))).toEqual([]);
    expect(() => entryBundle([Buffer.alloc(65_536)])).toThrow(/fits a bundle/);
    expect(() => entryBundle(Array.from({ length: 257 }, () => Buffer.alloc(1)))).toThrow(/256 leaves/);
  });

  it('are refused when truncated or too long', () => {
    const bundle = entryBundle([Buffer.from('abc'), Buffer.from('de')]);
    for (const length of [1, 2, 3, 4, 6, 7, 8])
      expect(() => parseEntryBundle(bundle.subarray(0, length))).toThrow(integrityLog);
    expect(() => parseEntryBundle(Buffer.alloc(257 * 2))).toThrow(integrityLog);
    expect(parseEntryBundle(Buffer.alloc(256 * 2)).length).toBe(256);
  });
});

it('hashes a known tile as its leaves do', () => {
  const tree = new TileTree(new MemoryTiles(), 0);
  const leaves = Array.from({ length: 4 }, (_, i) => hashLeaf(Buffer.from([i])));
  tree.append(leaves);
  const [a, b, c, d] = leaves as [Buffer, Buffer, Buffer, Buffer];
  expect(tree.root()).toEqual(hashNode(hashNode(a, b), hashNode(c, d)));
});
