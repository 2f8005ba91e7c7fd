import { expect, test } from 'vitest';
import { measureStreams } from './streams.ts';

/** What CI's machine may be slower, and its allocator more generous. */
const slack = process.env.CI === undefined ? 1 : 2;

test('a thousand connections and three thousand further streams stay small, and a rotation reaches all in a second', async () => {
  const figures = await measureStreams();
  expect(figures.bytesOfConnection).toBeLessThan(64 * 1024);
  expect(figures.bytesOfStream).toBeLessThan(6 * 1024 * slack);
  expect(Math.min(...figures.rotationMs)).toBeLessThan(1000);
  expect(Math.min(...figures.rotationOfStreamsMs)).toBeLessThan(1000 * slack);
}, 120_000);
