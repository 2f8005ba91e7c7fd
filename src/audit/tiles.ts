import { TileNodes, tileWidth } from '../log/tile-nodes.ts';
import { type TileIo, tilePath } from '../log/tiles.ts';
import type { Problems } from './verification.ts';

/** A server writes tiles each second; what a crash lost, the next start writes first. */
const writtenWithinMs = 60_000;

interface Missing {
  name: string;
  level: number;
  index: number;
  /** Of the leaf that completed it. */
  timeMs: number;
}

/** Holds every full hash tile on disk against the tree over the leaves. */
export class TileCheck {
  readonly #readTile: TileIo['readTile'];
  readonly #problems: Problems;
  /** The tile of each level that is not full yet. */
  readonly #edge: TileNodes[] = [];
  readonly #missing: Missing[] = [];
  /** The last tile of each level that is on disk. */
  readonly #lastFound = new Map<number, number>();
  #latestMs = 0;

  constructor(readTile: TileIo['readTile'], problems: Problems) {
    this.#readTile = readTile;
    this.#problems = problems;
  }

  leaf(leafHash: Buffer, timeMs: number): void {
    this.#latestMs = Math.max(this.#latestMs, timeMs);
    this.#push(0, leafHash, timeMs);
  }

  finish(): void {
    for (const { name, level, index, timeMs } of this.#missing)
      if (index < (this.#lastFound.get(level) ?? -1) || timeMs + writtenWithinMs < this.#latestMs)
        this.#problems.add(`${name} is missing`);
  }

  #push(level: number, hash: Buffer, timeMs: number): void {
    const tile = this.#edge[level] ?? new TileNodes(0);
    tile.push(hash);
    this.#edge[level] = tile;
    if (!tile.isFull) return;
    this.#compare(level, tile, timeMs);
    this.#edge[level] = new TileNodes(tile.index + 1);
    this.#push(level + 1, tile.root(), timeMs);
  }

  #compare(level: number, tile: TileNodes, timeMs: number): void {
    const { index } = tile;
    const name = `log/${tilePath(level, index)}`;
    const stored = this.#problems.attempt(name, () => this.#readTile(level, index));
    if (!stored) {
      this.#missing.push({ name, level, index, timeMs });
      return;
    }
    this.#lastFound.set(level, index);
    if (!stored.equals(tile.bytes(tileWidth)))
      this.#problems.add(`${name} differs from the hashes of the leaves`);
  }
}
