import { hash } from 'node:crypto';
import { assert, VouchError } from '../core/errors.ts';

/** Bytes of every hash in the tree: SHA-256. */
export const hashBytes = 32;

/** Root of the tree without leaves: SHA-256 of nothing (RFC 6962 §2.1). */
export const emptyRoot: Buffer = sha256(Buffer.alloc(0));

/** Leaf hash: SHA-256(0x00 ‖ leaf) (RFC 6962 §2.1). */
export function hashLeaf(leaf: Buffer): Buffer {
  const prefixed = Buffer.allocUnsafe(leaf.length + 1);
  prefixed[0] = 0x00;
  leaf.copy(prefixed, 1);
  return sha256(prefixed);
}

// One for all calls: hashing is synchronous, and a fresh buffer for each node costs as much as the hash.
const nodeInput = Buffer.alloc(1 + 2 * hashBytes, 0x01);

/** Interior hash: SHA-256(0x01 ‖ left ‖ right) (RFC 6962 §2.1). */
export function hashNode(left: Buffer, right: Buffer): Buffer {
  assert(left.length === hashBytes && right.length === hashBytes, 'node hashes of 32 bytes');
  left.copy(nodeInput, 1);
  right.copy(nodeInput, 1 + hashBytes);
  return sha256(nodeInput);
}

/** By way of a string: three times as fast as asking node:crypto for a buffer (0.35 µs against 1.1 µs). */
function sha256(bytes: Buffer): Buffer {
  return Buffer.from(hash('sha256', bytes, 'binary'), 'latin1');
}

/** The right edge of a growing tree: enough to append and to know the root, O(log n) memory. */
export class Frontier {
  #size: number;
  readonly #peaks: Buffer[];

  private constructor(size: number, peaks: Buffer[]) {
    this.#size = size;
    this.#peaks = peaks;
  }

  /** The frontier of the tree without leaves. */
  static empty(): Frontier {
    return new Frontier(0, []);
  }

  /** Takes up a tree by its peaks, largest first. Throws `integrity-log` when they cannot belong to `size`. */
  static fromPeaks(size: number, peaks: readonly Buffer[]): Frontier {
    const fits = isSize(size) && peaks.length === peakRanges(size).length && peaks.every(isHash);
    if (!fits)
      throw new VouchError('integrity-log', `${peaks.length} peaks do not make a tree of size ${size}`);
    return new Frontier(size, [...peaks]);
  }

  get size(): number {
    return this.#size;
  }

  /** Roots of the complete subtrees, largest first. */
  peaks(): Buffer[] {
    return [...this.#peaks];
  }

  /** Appends one leaf hash (32 bytes); amortised one node hash. */
  append(leafHash: Buffer): void {
    assert(isHash(leafHash), 'leaf hash of 32 bytes');
    let node = leafHash;
    for (let rest = this.#size; rest % 2 === 1; rest = Math.floor(rest / 2)) {
      const left = this.#peaks.pop();
      assert(left, 'a peak for each one bit of the size');
      node = hashNode(left, node);
    }
    this.#peaks.push(node);
    this.#size += 1;
  }

  /** MTH of all leaves so far. */
  root(): Buffer {
    return rootOfPeaks(this.#peaks);
  }

  /** An independent copy, for appends that may be given up. */
  clone(): Frontier {
    return new Frontier(this.#size, [...this.#peaks]);
  }
}

/** Where a range hasher finds complete subtrees. */
export interface NodeReader {
  /** Root of the complete subtree over leaves [index << level, (index + 1) << level). Not to be written to. */
  node(level: number, index: number): Buffer;
}

/** MTH over the leaves [start, end) of a tree. */
export type RangeHash = (start: number, end: number) => Buffer;

/**
 * MTH over ranges as they occur in proofs (every subtree aligned). Remembers the incomplete ranges that end where the
 * last one did, so that the proofs for a whole batch at one tree size hash the right edge once.
 */
export function rangeHasher(reader: NodeReader): RangeHash {
  const remembered = new Map<number, Buffer>();
  let rememberedEnd = -1;
  const rangeHash: RangeHash = (start, end) => {
    assert(isSize(start) && isSize(end) && start < end, 'range of leaves not empty');
    const level = floorLog2(end - start);
    const width = 2 ** level;
    if (width === end - start) return nodeAt(reader, level, start);
    if (end !== rememberedEnd) {
      remembered.clear();
      rememberedEnd = end;
    }
    const known = remembered.get(start);
    if (known) return known;
    const made = hashNode(nodeAt(reader, level, start), rangeHash(start + width, end));
    remembered.set(start, made);
    return made;
  };
  return rangeHash;
}

/** Ranges [start, end) of the complete subtrees that make up a tree of `size`, largest first. */
export function peakRanges(size: number): { level: number; start: number }[] {
  const ranges = [];
  for (let start = 0; start < size; ) {
    const level = floorLog2(size - start);
    ranges.push({ level, start });
    start += 2 ** level;
  }
  return ranges;
}

/** MTH of a tree from its peaks, largest first. */
export function rootOfPeaks(peaks: readonly Buffer[]): Buffer {
  return peaks.length === 0 ? emptyRoot : peaks.reduceRight((right, left) => hashNode(left, right));
}

/** Audit path of leaf `index` in the tree of `treeSize`, leaf's sibling first (RFC 9162 §2.1.3.1). */
export function inclusionPath(index: number, treeSize: number, rangeHash: RangeHash): Buffer[] {
  assert(isSize(index) && isSize(treeSize) && index < treeSize, 'leaf inside the tree');
  const path: Buffer[] = [];
  for (let start = 0, end = treeSize; end - start > 1; ) {
    const split = start + splitOf(end - start);
    if (index < split) {
      path.push(rangeHash(split, end));
      end = split;
    } else {
      path.push(rangeHash(start, split));
      start = split;
    }
  }
  return path.reverse();
}

/** Proof that the tree of `newSize` extends that of `oldSize` (RFC 9162 §2.1.4.1); empty for 0 and for equal sizes. */
export function consistencyPath(oldSize: number, newSize: number, rangeHash: RangeHash): Buffer[] {
  assert(isSize(oldSize) && isSize(newSize) && oldSize <= newSize, 'old tree not larger than the new one');
  if (oldSize === 0 || oldSize === newSize) return [];
  const path: Buffer[] = [];
  let start = 0;
  let end = newSize;
  while (end !== oldSize) {
    const split = start + splitOf(end - start);
    if (oldSize <= split) {
      path.push(rangeHash(split, end));
      end = split;
    } else {
      path.push(rangeHash(start, split));
      start = split;
    }
  }
  // A subtree that begins at 0 is the old tree itself, whose root the verifier has.
  if (start > 0) path.push(rangeHash(start, end));
  return path.reverse();
}

/** What an inclusion proof claims; `path` as from `inclusionPath`. */
export interface InclusionProof {
  index: number;
  treeSize: number;
  leafHash: Buffer;
  path: readonly Buffer[];
}

/** The root that an inclusion proof leads to, or undefined where its shape is wrong; never throws. */
export function rootFromInclusion(proof: InclusionProof): Buffer | undefined {
  const { index, treeSize, leafHash, path } = proof;
  if (!isSize(index) || !isSize(treeSize) || index >= treeSize) return undefined;
  if (!isHash(leafHash) || !isPath(path)) return undefined;
  let at = index;
  let last = treeSize - 1;
  let root = leafHash;
  for (const sibling of path) {
    if (last === 0) return undefined;
    if (at % 2 === 1 || at === last) {
      root = hashNode(sibling, root);
      while (at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      root = hashNode(root, sibling);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 ? root : undefined;
}

/** Checks an inclusion proof (RFC 9162 §2.1.3.2); false on anything malformed, never throws. */
export function verifyInclusion(proof: InclusionProof & { rootHash: Buffer }): boolean {
  return isHash(proof.rootHash) && rootFromInclusion(proof)?.equals(proof.rootHash) === true;
}

/** What a consistency proof claims; `path` as from `consistencyPath`. */
export interface ConsistencyProof {
  oldSize: number;
  newSize: number;
  oldRoot: Buffer;
  newRoot: Buffer;
  path: readonly Buffer[];
}

/** Checks a consistency proof (RFC 9162 §2.1.4.2); false on anything malformed, never throws. */
export function verifyConsistency(proof: ConsistencyProof): boolean {
  const { oldSize, newSize, oldRoot, newRoot, path } = proof;
  if (!isSize(oldSize) || !isSize(newSize) || oldSize > newSize) return false;
  if (!isHash(oldRoot) || !isHash(newRoot) || !isPath(path)) return false;
  if (oldSize === newSize)
    return path.length === 0 && oldRoot.equals(newRoot) && (oldSize > 0 || oldRoot.equals(emptyRoot));
  if (oldSize === 0) return path.length === 0 && oldRoot.equals(emptyRoot);
  return replayConsistency(proof);
}

function replayConsistency({ oldSize, newSize, oldRoot, newRoot, path }: ConsistencyProof): boolean {
  const steps = isPowerOfTwo(oldSize) ? [oldRoot, ...path] : path;
  const [seed, ...rest] = steps;
  if (seed === undefined) return false;
  let at = oldSize - 1;
  let last = newSize - 1;
  while (at % 2 === 1) [at, last] = [half(at), half(last)];
  let old = seed;
  let grown = seed;
  for (const step of rest) {
    if (last === 0) return false;
    if (at % 2 === 1 || at === last) {
      old = hashNode(step, old);
      grown = hashNode(step, grown);
      while (at % 2 === 0 && at !== 0) [at, last] = [half(at), half(last)];
    } else {
      grown = hashNode(grown, step);
    }
    [at, last] = [half(at), half(last)];
  }
  return last === 0 && old.equals(oldRoot) && grown.equals(newRoot);
}

function nodeAt(reader: NodeReader, level: number, start: number): Buffer {
  const index = start / 2 ** level;
  assert(Number.isInteger(index), 'range aligned as proofs need it');
  return reader.node(level, index);
}

/** RFC 6962's k: the largest power of two smaller than `width` (> 1). */
function splitOf(width: number): number {
  const power = 2 ** floorLog2(width);
  return power === width ? power / 2 : power;
}

/** Exact up to 2^53, where Math.log2 rounds and 32 bit operators wrap. */
function floorLog2(n: number): number {
  const high = Math.floor(n / 2 ** 32);
  return high > 0 ? 63 - Math.clz32(high) : 31 - Math.clz32(n);
}

function isPowerOfTwo(n: number): boolean {
  return 2 ** floorLog2(n) === n;
}

function half(n: number): number {
  return Math.floor(n / 2);
}

function isSize(n: number): boolean {
  return Number.isSafeInteger(n) && n >= 0;
}

function isHash(value: unknown): boolean {
  return Buffer.isBuffer(value) && value.length === hashBytes;
}

function isPath(path: unknown): boolean {
  return Array.isArray(path) && path.every(isHash);
}
