import type { TileIo } from '../../src/log/tiles.ts';

/** Tiles in memory, with what was read and written. */
export class MemoryTiles implements TileIo {
  readonly files = new Map<string, Buffer>();
  readonly written: string[] = [];
  reads = 0;
  failWrites = false;

  readTile(level: number, index: number): Buffer | undefined {
    this.reads += 1;
    return this.files.get(`${level}/${index}`);
  }

  writeTile(level: number, index: number, bytes: Buffer): void {
    if (this.failWrites) throw new Error('disk full');
    this.files.set(`${level}/${index}`, bytes);
    this.written.push(`${level}/${index}`);
  }
}
