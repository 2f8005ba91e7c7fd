import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { Script } from 'node:vm';

/** `scripts/build.mjs` begins a program with so many bytes that name what it holds; V8 itself compares its length alone. */
const nameBytes = 70;

/**
 * Loads a CommonJS bundle of ours by its path, with V8's code cache beside it where that is there and was made of this
 * very program by this very Node: that saves compiling. Whoever can write the cache can write the program.
 */
export function loadProgram<T>(file: string): T {
  const source = readFileSync(file);
  const script = compiled(file, source, cacheOf(file, source));
  const module = { exports: {} };
  const run = script.runInThisContext() as (...scope: unknown[]) => void;
  run(module.exports, createRequire(file), module, file, dirname(file));
  return module.exports as T;
}

/** Makes the cache that `loadProgram` reads: of every function, also those that are called late. */
export function writeCodeCache(file: string): void {
  // Only a build loads it.
  const { setFlagsFromString } = process.getBuiltinModule('node:v8');
  const source = readFileSync(file);
  setFlagsFromString('--no-lazy');
  const script = compiled(file, source);
  // V8 compares what its flags were when it was written.
  setFlagsFromString('--lazy');
  writeFileSync(cachePathOf(file), Buffer.concat([nameOf(source), script.createCachedData()]));
}

function compiled(file: string, source: Buffer, cachedData?: Buffer): Script {
  const wrapped = `(function (exports, require, module, __filename, __dirname) {${source.toString()}\n})`;
  return new Script(wrapped, { filename: file, ...(cachedData && { cachedData }) });
}

function cacheOf(file: string, source: Buffer): Buffer | undefined {
  try {
    const stored = readFileSync(cachePathOf(file));
    return nameOf(stored).equals(nameOf(source)) ? stored.subarray(nameBytes) : undefined;
  } catch {
    return undefined;
  }
}

function nameOf(bytes: Buffer): Buffer {
  return bytes.subarray(0, nameBytes);
}

function cachePathOf(file: string): string {
  return file.replace(/\.cjs$/, '.cache');
}
