import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { loadProgram, writeCodeCache } from '../../src/program.ts';

/** A program as `scripts/build.mjs` begins it: both names and both answers are of one length. */
function program(name: string, answer: number): string {
  return `/* ${name.repeat(64)} */ exports.answer = () => ${answer}; exports.file = __filename;`;
}

function written(source: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'vouch-program-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'one.cjs');
  writeFileSync(file, source);
  return file;
}

function answerOf(file: string): number {
  const loaded = loadProgram<{ answer: () => number; file: string }>(file);
  expect(loaded.file).toBe(file);
  return loaded.answer();
}

test('a program is loaded with its code cache', () => {
  const file = written(program('a', 1));
  expect(answerOf(file)).toBe(1);
  writeCodeCache(file);
  expect(answerOf(file)).toBe(1);
  // V8 runs what is in the cache: it compares no more of the program than its length.
  writeFileSync(file, program('a', 2));
  expect(answerOf(file)).toBe(1);
});

test('the cache of another program is not used', () => {
  const file = written(program('a', 1));
  writeCodeCache(file);
  writeFileSync(file, program('b', 2));
  expect(answerOf(file)).toBe(2);
});

test.each([0, 70, 300])('a cache that ends after %i bytes is not used', (bytes) => {
  const file = written(program('a', 1));
  writeCodeCache(file);
  const cache = file.replace('.cjs', '.cache');
  writeFileSync(cache, readFileSync(cache).subarray(0, bytes));
  expect(answerOf(file)).toBe(1);
});
