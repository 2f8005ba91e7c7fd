import { Frontier, hashBytes } from '../log/merkle.ts';
import { TileNodes, tileWidth } from '../log/tile-nodes.ts';
import { tilePath } from '../log/tiles.ts';
import type { PublishedFiles } from './published-files.ts';
import type { Problems } from './verification.ts';

/**
 * Recomputes the root of a published tree of `treeSize` from the tiles of its leaf hashes, and holds every tile above
 * them against it, the incomplete ones too. Undefined where a tile of leaf hashes is not whole.
 */
export async function publishedRoot(parts: {
  files: PublishedFiles;
  treeSize: number;
  problems: Problems;
  progress: (done: number, of: number) => void;
}): Promise<Buffer | undefined> {
  const { files, treeSize, problems, progress } = parts;
  const frontier = Frontier.empty();
  const upper = new UpperTiles(files, problems);
  for (let index = 0; index * tileWidth < treeSize; index += 1) {
    const width = Math.min(tileWidth, treeSize - index * tileWidth);
    const path = `/log/${tilePath(0, index, width)}`;
    const tile = await files.get(path, tileWidth * hashBytes);
    if (tile && tile.length !== width * hashBytes)
      problems.add(`${path}: it has ${tile.length} bytes, not ${width * hashBytes}`);
    if (tile?.length !== width * hashBytes) return undefined;
    for (let at = 0; at < tile.length; at += hashBytes) frontier.append(tile.subarray(at, at + hashBytes));
    if (width === tileWidth) await upper.push(1, TileNodes.fromBytes(index, tile).root());
    progress(frontier.size, treeSize);
  }
  await upper.finish();
  return frontier.root();
}

/** The tiles above the leaf hashes, as the leaf hashes make them. */
class UpperTiles {
  readonly #files: PublishedFiles;
  readonly #problems: Problems;
  /** The tile of each level that is not full yet; there is none at level 0. */
  readonly #edge: TileNodes[] = [];

  constructor(files: PublishedFiles, problems: Problems) {
    this.#files = files;
    this.#problems = problems;
  }

  async push(level: number, hash: Buffer): Promise<void> {
    const tile = this.#edge[level] ?? new TileNodes(0);
    tile.push(hash);
    this.#edge[level] = tile;
    if (!tile.isFull) return;
    await this.#compare(level, tile);
    this.#edge[level] = new TileNodes(tile.index + 1);
    await this.push(level + 1, tile.root());
  }

  async finish(): Promise<void> {
    for (const [level, tile] of this.#edge.entries())
      if (tile !== undefined && tile.width > 0) await this.#compare(level, tile);
  }

  async #compare(level: number, tile: TileNodes): Promise<void> {
    const path = `/log/${tilePath(level, tile.index, tile.width)}`;
    const published = await this.#files.get(path, tileWidth * hashBytes);
    if (published && !published.equals(tile.bytes(tile.width)))
      this.#problems.add(`${path}: it differs from the tiles below it`);
  }
}
