import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { openFileTiles } from '../../src/log/file-tiles.ts';
import { hashLeaf } from '../../src/log/merkle.ts';
import { TileTree } from '../../src/log/tiles.ts';
import { refusal } from './refusal.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'vouch-tiles-'));
});
afterEach(() => rmSync(directory, { recursive: true }));

const tile = Buffer.alloc(8192, 1);

it('keeps a tile under its C2SP path, readable by its owner only', () => {
  openFileTiles(directory).writeTile(0, 1234, tile);
  const file = join(directory, 'tile/0/x001/234');
  expect(readFileSync(file)).toEqual(tile);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(statSync(join(directory, 'tile')).mode & 0o777).toBe(0o700);
  expect(readdirSync(join(directory, 'tile/0/x001'))).toEqual(['234']);
  expect(openFileTiles(directory).readTile(0, 1234)).toEqual(tile);
});

it('answers undefined for a tile that is not there', () => {
  expect(openFileTiles(directory).readTile(0, 0)).toBeUndefined();
  expect(openFileTiles(join(directory, 'none')).readTile(0, 0)).toBeUndefined();
});

it('takes the same tile again, but never other bytes', () => {
  const tiles = openFileTiles(directory);
  tiles.writeTile(0, 0, tile);
  tiles.writeTile(0, 0, Buffer.from(tile));
  expect(() => tiles.writeTile(0, 0, Buffer.alloc(8192, 2))).toThrow(refusal('integrity-log'));
  expect(tiles.readTile(0, 0)).toEqual(tile);
});

it('ignores and replaces what a crash left half written', () => {
  const tiles = openFileTiles(directory);
  mkdirSync(join(directory, 'tile/0'), { recursive: true });
  writeFileSync(join(directory, 'tile/0/000.new'), tile.subarray(0, 100));
  expect(tiles.readTile(0, 0)).toBeUndefined();
  tiles.writeTile(0, 0, tile);
  expect(tiles.readTile(0, 0)).toEqual(tile);
  expect(readdirSync(join(directory, 'tile/0'))).toEqual(['000']);
});

it('says what to do when it cannot write or read', () => {
  writeFileSync(join(directory, 'tile'), '');
  const unavailable = refusal('unavailable-store', 'disk space');
  const failing = openFileTiles(join(directory, 'tile/under-a-file'));
  expect(() => failing.writeTile(0, 0, tile)).toThrow(refusal('integrity-log'));
  mkdirSync(join(directory, 'x/tile/0/000.new'), { recursive: true });
  expect(() => openFileTiles(join(directory, 'x')).writeTile(0, 0, tile)).toThrow(unavailable);
  mkdirSync(join(directory, 'y/tile/0/000'), { recursive: true });
  expect(() => openFileTiles(join(directory, 'y')).readTile(0, 0)).toThrow(refusal('integrity-log'));
});

it('carries a tree over a restart', () => {
  const hashes = Array.from({ length: 1000 }, (_, i) => hashLeaf(Buffer.from(`${i}`)));
  const tree = new TileTree(openFileTiles(directory), 0);
  tree.append(hashes);
  tree.flush();
  const again = new TileTree(openFileTiles(directory), 1000, (from, to) => hashes.slice(from, to));
  expect(again.root()).toEqual(tree.root());
  expect(again.flush()).toBe(0);
});
