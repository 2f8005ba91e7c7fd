import { assert, VouchError } from '../core/errors.ts';
import { leafMaxBytes } from './leaf.ts';
import { hashBytes, type NodeReader, peakRanges, rootOfPeaks } from './merkle.ts';
import { TileNodes, tileBytes, tileHeight, tileWidth } from './tile-nodes.ts';

/** Where full tiles are kept. */
export interface TileIo {
  /** The 8,192 bytes of a full tile, or undefined where there is none. */
  readTile(level: number, index: number): Buffer | undefined;
  /** Durable and atomic when it returns. Full tiles never change. */
  writeTile(level: number, index: number, bytes: Buffer): void;
}

/** Leaf hashes of [from, to) as the store has them. */
export type LeafHashSource = (from: number, to: number) => readonly Buffer[];

/** Full tiles that stay in memory with their nodes: 16 KB each. */
const recentTiles = 256;

/**
 * The log's tree in C2SP tlog-tiles (https://c2sp.org/tlog-tiles). The right edge lives in memory, full tiles are
 * written by `flush` and read back through a bounded cache, each checked against the tile above it. Without a
 * `source` a missing full tile is an `integrity-log` failure; with one it is rebuilt from the store.
 */
export class TileTree implements NodeReader {
  readonly #io: TileIo;
  readonly #source: LeafHashSource | undefined;
  /** The rightmost, not yet full tile of each level; it may be empty. */
  readonly #edge: TileNodes[] = [];
  readonly #unwritten = new Map<string, { level: number; tile: TileNodes }>();
  readonly #recent = new Map<string, TileNodes>();
  #size: number;

  /**
   * Loads the right edge of the tree of `size`. `source` gives the leaf hashes of an incomplete last tile, so it is
   * needed unless 256 divides `size`. The caller compares `root()` with a checkpoint.
   */
  constructor(io: TileIo, size: number, source?: LeafHashSource) {
    assert(Number.isSafeInteger(size) && size >= 0, 'tree size');
    this.#io = io;
    this.#source = source;
    this.#size = size;
    for (let level = 0, count = size; count > 0; level += 1, count = Math.floor(count / tileWidth)) {
      const tile = new TileNodes(Math.floor(count / tileWidth));
      for (const hash of this.#hashes(level, count - (count % tileWidth), count)) tile.push(hash);
      this.#edge.push(tile);
    }
  }

  get size(): number {
    return this.#size;
  }

  /** Appends leaf hashes (32 bytes each); amortised one node hash for each. */
  append(leafHashes: readonly Buffer[]): void {
    for (const hash of leafHashes) {
      this.#push(0, hash);
      this.#size += 1;
    }
  }

  /** Root of a complete subtree; a view, not to be written to. */
  node(level: number, index: number): Buffer {
    assert((index + 1) * 2 ** level <= this.#size, 'complete subtree inside the tree');
    const sublevel = level % tileHeight;
    const span = 2 ** (tileHeight - sublevel);
    const tile = this.#tile(Math.floor(level / tileHeight), Math.floor(index / span));
    return tile.node(sublevel, index % span);
  }

  /** MTH of the first `size` leaves. */
  root(size = this.#size): Buffer {
    return rootOfPeaks(this.peaks(size));
  }

  /** Roots of the complete subtrees of the first `size` leaves, largest first; copies. */
  peaks(size = this.#size): Buffer[] {
    assert(Number.isSafeInteger(size) && size >= 0 && size <= this.#size, 'size not past the tree');
    return peakRanges(size).map(({ level, start }) => Buffer.from(this.node(level, start / 2 ** level)));
  }

  /** The first `width` hashes of a tile, 32 bytes each. Throws `request-not-found` where the tree has none yet. */
  tile(level: number, index: number, width: number): Buffer {
    assert(
      [level, index, width].every((n) => Number.isSafeInteger(n) && n >= 0),
      'tile coordinates',
    );
    const present = Math.floor(this.#size / tileWidth ** level) - index * tileWidth;
    if (width === 0 || width > tileWidth || width > present)
      throw new VouchError('request-not-found', 'the log has no such tile yet');
    return this.#tile(level, index).bytes(width);
  }

  /**
   * Writes the full tiles completed since the last call, lower levels first, and returns how many. What could not be
   * written stays readable here and is tried again by the next call.
   */
  flush(): number {
    let written = 0;
    for (const [key, { level, tile }] of this.#unwritten) {
      this.#io.writeTile(level, tile.index, tile.bytes(tileWidth));
      this.#unwritten.delete(key);
      this.#remember(key, tile);
      written += 1;
    }
    return written;
  }

  #push(level: number, hash: Buffer): void {
    const tile = this.#edge[level] ?? new TileNodes(0);
    tile.push(hash);
    this.#edge[level] = tile;
    if (!tile.isFull) return;
    this.#unwritten.set(keyOf(level, tile.index), { level, tile });
    this.#edge[level] = new TileNodes(tile.index + 1);
    this.#push(level + 1, tile.root());
  }

  #tile(level: number, index: number): TileNodes {
    const edge = this.#edge[level];
    if (edge?.index === index) return edge;
    const key = keyOf(level, index);
    const held = this.#unwritten.get(key)?.tile ?? this.#recent.get(key);
    if (held) {
      if (this.#recent.delete(key)) this.#recent.set(key, held);
      return held;
    }
    const tile = this.#read(level, index);
    if (!tile.root().equals(this.node((level + 1) * tileHeight, index))) {
      this.#recent.delete(key);
      this.#unwritten.delete(key);
      throw new VouchError(
        'integrity-log',
        `log tile ${tilePath(level, index)} does not fit the tree: the file was altered or the disk is failing`,
      );
    }
    return tile;
  }

  /** A full tile, not yet compared with the level above. */
  #read(level: number, index: number): TileNodes {
    const key = keyOf(level, index);
    const bytes = this.#io.readTile(level, index);
    if (bytes) {
      if (bytes.length !== tileBytes)
        throw new VouchError('integrity-log', `log tile ${tilePath(level, index)} has a wrong length`);
      const tile = TileNodes.fromBytes(index, bytes);
      this.#remember(key, tile);
      return tile;
    }
    if (!this.#source)
      throw new VouchError(
        'integrity-log',
        `log tile ${tilePath(level, index)} is missing: restore it from a backup`,
      );
    const tile = new TileNodes(index);
    for (const hash of this.#hashes(level, index * tileWidth, (index + 1) * tileWidth)) tile.push(hash);
    this.#unwritten.set(key, { level, tile });
    return tile;
  }

  /** Hashes [from, to) of a level: leaf hashes from the store, or roots of the full tiles one level down. */
  #hashes(level: number, from: number, to: number): readonly Buffer[] {
    if (from === to) return [];
    if (level > 0) return Array.from({ length: to - from }, (_, i) => this.#held(level - 1, from + i).root());
    assert(this.#source, 'a source of leaf hashes for an incomplete tile');
    const hashes = this.#source(from, to);
    if (hashes.length !== to - from || !hashes.every((hash) => hash.length === hashBytes))
      throw new VouchError('integrity-log', `the store lacks leaf hashes of ${from} to ${to - 1}`);
    return hashes;
  }

  #held(level: number, index: number): TileNodes {
    return this.#unwritten.get(keyOf(level, index))?.tile ?? this.#read(level, index);
  }

  #remember(key: string, tile: TileNodes): void {
    this.#recent.set(key, tile);
    if (this.#recent.size <= recentTiles) return;
    for (const oldest of this.#recent.keys()) {
      this.#recent.delete(oldest);
      return;
    }
  }
}

/** A tile's coordinates in a C2SP path; level `entries` is an entry bundle. */
export interface TilePath {
  level: number | 'entries';
  index: number;
  /** 1 to 256; 256 is a full tile. */
  width: number;
}

/** `tile/0/x001/234`, a partial one with `.p/<width>` (C2SP tlog-tiles). */
export function tilePath(level: number | 'entries', index: number, width = tileWidth): string {
  assert(Number.isSafeInteger(index) && index >= 0 && width >= 1 && width <= tileWidth, 'tile coordinates');
  const digits = String(index);
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/.{3}/g) ?? [];
  const name = groups.map((group, i) => (i < groups.length - 1 ? `x${group}` : group)).join('/');
  return `tile/${level}/${name}${width === tileWidth ? '' : `.p/${width}`}`;
}

const tilePathGrammar = /^tile\/(entries|[0-9]{1,2})\/((?:x[0-9]{3}\/){0,5}[0-9]{3})(?:\.p\/([0-9]{1,3}))?$/;

/** Parses what `tilePath` writes; undefined for any other spelling. */
export function parseTilePath(path: string): TilePath | undefined {
  const match = tilePathGrammar.exec(path);
  if (!match) return undefined;
  const [, levelText = '', indexText = '', widthText] = match;
  const level = levelText === 'entries' ? levelText : Number(levelText);
  const index = Number(indexText.replaceAll(/[x/]/g, ''));
  const width = widthText === undefined ? tileWidth : Number(widthText);
  if ((level !== 'entries' && level > 63) || !Number.isSafeInteger(index) || width < 1 || width > tileWidth)
    return undefined;
  return tilePath(level, index, width) === path ? { level, index, width } : undefined;
}

/** An entry bundle: each leaf after its length in two bytes, big endian (C2SP tlog-tiles). */
export function entryBundle(leaves: readonly Buffer[]): Buffer {
  assert(leaves.length <= tileWidth, 'at most 256 leaves in a bundle');
  return Buffer.concat(
    leaves.flatMap((leaf) => {
      assert(leaf.length <= leafMaxBytes, 'leaf fits a bundle');
      return [Buffer.from([leaf.length >> 8, leaf.length & 0xff]), leaf];
    }),
  );
}

/** The leaves of an entry bundle, at most 256. Throws `integrity-log`. */
export function parseEntryBundle(bytes: Buffer): Buffer[] {
  const leaves: Buffer[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = bytes.length - at < 2 ? Infinity : at + 2 + bytes.readUInt16BE(at);
    if (end > bytes.length || leaves.length === tileWidth)
      throw new VouchError('integrity-log', 'entry bundle is malformed');
    leaves.push(bytes.subarray(at + 2, end));
    at = end;
  }
  return leaves;
}

function keyOf(level: number, index: number): string {
  return `${level}/${index}`;
}
