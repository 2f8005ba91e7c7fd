import { once } from 'node:events';
import { afterEach, expect, test } from 'vitest';
import { systemClock } from '../../src/core/clock.ts';
import { VouchError } from '../../src/core/errors.ts';
import type { PublishedDocument, PublishTarget } from '../../src/publish/port.ts';
import { Pusher } from '../../src/publish/pusher.ts';
import { crl } from './support.ts';

/** A target that is as the test says. */
class Target implements PublishTarget {
  readonly name = 'there';
  readonly atOnce = 4;
  readonly put_: string[] = [];
  isAway = false;
  readonly #held = new Map<string, PromiseWithResolvers<void>>();

  /** Puts of this path hang until what is returned is called. */
  hold(path: string): () => void {
    const held = Promise.withResolvers<void>();
    this.#held.set(path, held);
    return () => {
      this.#held.delete(path);
      held.resolve();
    };
  }

  async put(path: string, { version }: PublishedDocument, signal: AbortSignal): Promise<void> {
    const held = this.#held.get(path)?.promise;
    if (held) await Promise.race([held, once(signal, 'abort')]);
    signal.throwIfAborted();
    if (this.isAway) throw new VouchError('unavailable-server', 'nobody answers');
    this.put_.push(`${path} ${version}`);
  }
}

const told: string[] = [];
let pusher: Pusher | undefined;

function pusherOf(target: Target): Pusher {
  const failed = (name: string, path: string, error: Error): void =>
    void told.push(`${name} ${path} ${error.message}`);
  pusher = new Pusher(target, { clock: systemClock, failed });
  return pusher;
}

afterEach(() => {
  told.length = 0;
  return pusher?.close();
});

test('of what waits only the newest of a path is put', async () => {
  const target = new Target();
  const release = target.hold('/a');
  const to = pusherOf(target);
  for (let version = 1n; version <= 1000n; version += 1n) to.put('/a', crl(version));
  to.put('/b', crl(7n));
  await expect.poll(() => target.put_).toEqual(['/b 7']);
  expect(to.status()).toMatchObject({ target: 'there', waiting: 1, failures: 0, problem: undefined });
  release();
  await expect.poll(() => target.put_).toEqual(['/b 7', '/a 1000']);
  expect(to.status()).toMatchObject({ waiting: 0 });
});

test('five paths that hang are no more than four', async () => {
  const target = new Target();
  const releases = ['/a', '/b', '/c', '/d', '/e'].map((path) => [path, target.hold(path)] as const);
  const to = pusherOf(target);
  for (const [path] of releases) to.put(path, crl(1n));
  releases[4]?.[1]();
  await new Promise(setImmediate);
  expect(target.put_).toEqual([]);
  releases[0]?.[1]();
  await expect.poll(() => target.put_).toEqual(['/a 1', '/e 1']);
});

test('what failed is told once, tried again, and then the newest is there', async () => {
  const target = new Target();
  target.isAway = true;
  const to = pusherOf(target);
  to.put('/a', crl(1n));
  await expect.poll(() => to.status().failures, { timeout: 10_000 }).toBeGreaterThan(1);
  to.put('/a', crl(2n));
  expect(told).toEqual(['there /a nobody answers']);
  expect(to.status()).toMatchObject({ waiting: 1, problem: 'nobody answers', lastPutMs: undefined });
  target.isAway = false;
  await expect.poll(() => target.put_, { timeout: 10_000 }).toEqual(['/a 2']);
  expect(to.status()).toMatchObject({
    waiting: 0,
    problem: undefined,
    lastPutMs: expect.any(Number) as number,
  });
});

test('closing waits for nothing that hangs', async () => {
  const target = new Target();
  target.hold('/a');
  const to = pusherOf(target);
  to.put('/a', crl(1n));
  await to.close();
  expect(target.put_).toEqual([]);
  expect(told).toEqual([]);
});
