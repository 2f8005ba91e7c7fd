import { setImmediate as aTurn } from 'node:timers/promises';

/** Longest time without a turn of the event loop. */
const sliceMs = 5;

/** Long work that gives others a turn every few milliseconds: `if (slice.isOver) await slice.turn()` after each step. */
export class Slice {
  #sinceMs = performance.now();

  get isOver(): boolean {
    return performance.now() - this.#sinceMs > sliceMs;
  }

  async turn(): Promise<void> {
    await aTurn();
    this.#sinceMs = performance.now();
  }
}

/** Starts something with each, and gives others a turn every few milliseconds; done when all of it is, as `Promise.all`. */
export async function startInSlices<Item>(
  items: readonly Item[],
  start: (item: Item, position: number) => Promise<void>,
): Promise<void> {
  const slice = new Slice();
  const started: Promise<void>[] = [];
  for (const [position, item] of items.entries()) {
    if (slice.isOver) await slice.turn();
    const work = start(item, position);
    // It is looked at below, when the others have started.
    work.catch(() => undefined);
    started.push(work);
  }
  await Promise.all(started);
}
