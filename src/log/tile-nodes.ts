import { assert } from '../core/errors.ts';
import { hashBytes, hashNode } from './merkle.ts';

/** Hashes in a full tile (C2SP tlog-tiles). */
export const tileWidth = 256;
/** Tree levels in a tile. */
export const tileHeight = 8;
/** Bytes of a full tile. */
export const tileBytes = tileWidth * hashBytes;

/**
 * A tile with every node inside it: its hashes, and above them whatever they complete, up to the root that belongs to
 * the tile one level up. Each node is hashed once; 16 KB.
 */
export class TileNodes {
  readonly index: number;
  // Sublevel s has 256 >> s nodes and begins at node 512 - (512 >> s).
  readonly #nodes = Buffer.alloc((2 * tileWidth - 1) * hashBytes);
  #width = 0;

  constructor(index: number) {
    this.index = index;
  }

  /** A full tile from its 8,192 bytes. */
  static fromBytes(index: number, bytes: Buffer): TileNodes {
    assert(bytes.length === tileBytes, 'full tile of 8,192 bytes');
    const tile = new TileNodes(index);
    for (let at = 0; at < tileBytes; at += hashBytes) tile.push(bytes.subarray(at, at + hashBytes));
    return tile;
  }

  get width(): number {
    return this.#width;
  }

  get isFull(): boolean {
    return this.#width === tileWidth;
  }

  /** Adds the next hash and hashes what it completes. */
  push(hash: Buffer): void {
    assert(!this.isFull && hash.length === hashBytes, 'room in the tile for a 32 byte hash');
    let index = this.#width;
    let sublevel = 0;
    this.#put(sublevel, index, hash);
    for (; index % 2 === 1; index >>= 1) {
      const parent = hashNode(this.node(sublevel, index - 1), this.node(sublevel, index));
      sublevel += 1;
      this.#put(sublevel, index >> 1, parent);
    }
    this.#width += 1;
  }

  /** Node `index` of sublevel 0 (the tile's own hashes) to 8 (the full tile's root); a view, not to be written to. */
  node(sublevel: number, index: number): Buffer {
    const at = offset(sublevel, index);
    return this.#nodes.subarray(at, at + hashBytes);
  }

  /** Root of the full tile. */
  root(): Buffer {
    assert(this.isFull, 'tile is full');
    return this.node(tileHeight, 0);
  }

  /** A copy of the first `width` hashes, as tiles are served. */
  bytes(width: number): Buffer {
    assert(width <= this.#width, 'tile has this width');
    return Buffer.from(this.#nodes.subarray(0, width * hashBytes));
  }

  #put(sublevel: number, index: number, hash: Buffer): void {
    hash.copy(this.#nodes, offset(sublevel, index));
  }
}

function offset(sublevel: number, index: number): number {
  return (2 * tileWidth - ((2 * tileWidth) >> sublevel) + index) * hashBytes;
}
