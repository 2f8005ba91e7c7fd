import { createHash } from 'node:crypto';
import { beforeEach, expect, test } from 'vitest';
import { TileCheck } from '../../src/audit/tiles.ts';
import { Problems } from '../../src/audit/verification.ts';
import { TileTree } from '../../src/log/tiles.ts';

const hashes = Array.from({ length: 256 * 257 }, (_, i) => createHash('sha256').update(String(i)).digest());
const startMs = 1_796_083_200_000;
let onDisk: Map<string, Buffer>;

beforeEach(() => {
  onDisk = new Map();
  const tree = new TileTree(
    {
      readTile: (level, index) => onDisk.get(`${level}/${index}`),
      writeTile: (level, index, bytes) => void onDisk.set(`${level}/${index}`, bytes),
    },
    0,
  );
  tree.append(hashes);
  tree.flush();
});

/** What is said of the tiles on disk where each leaf came so many ms after the one before. */
function problemsAt(msApart: number): string[] {
  const problems = new Problems();
  const check = new TileCheck((level, index) => onDisk.get(`${level}/${index}`), problems);
  for (const [index, hash] of hashes.entries()) check.leaf(hash, startMs + index * msApart);
  check.finish();
  return problems.list();
}

test('every full tile of every level is compared', () => {
  expect(onDisk.size).toBe(258);
  expect(problemsAt(1)).toEqual([]);
  for (const [name, path] of [
    ['0/7', 'log/tile/0/007'],
    ['1/0', 'log/tile/1/000'],
  ] as const) {
    const bytes = onDisk.get(name) ?? Buffer.alloc(0);
    bytes[100] = (bytes[100] ?? 0) ^ 1;
    expect(problemsAt(1)).toEqual([`${path} differs from the hashes of the leaves`]);
    bytes[100] = (bytes[100] ?? 0) ^ 1;
  }
});

test('a tile that a crash had no time to write is no problem, one that is gone is', () => {
  onDisk.delete('0/256');
  expect(problemsAt(1)).toEqual([]);
  onDisk.delete('0/3');
  expect(problemsAt(1), 'a later one is there').toEqual(['log/tile/0/003 is missing']);
  onDisk.clear();
  expect(problemsAt(1).length, 'the log went on for 65 s').toBe(22);
  expect(problemsAt(1000).length).toBeGreaterThan(100);
});
