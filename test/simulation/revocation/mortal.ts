import type { Random } from '../../kills/random.ts';

/** What a call of a dead process comes to, where it cannot wait for ever. */
class Died extends Error {
  constructor() {
    super('the process died');
  }
}

const never = new Promise<never>(() => undefined);

/** A process that can die between any two calls to what outlives it; then none of its calls gets through any more. */
export class Mortal {
  readonly #random: Random;
  #stepsLeft = Number.POSITIVE_INFINITY;
  #isDead = false;
  /** What it was about to do, or had just done. */
  lastStep = '';

  constructor(random: Random) {
    this.#random = random;
  }

  get isDead(): boolean {
    return this.#isDead;
  }

  die(): void {
    this.#isDead = true;
  }

  /** It dies before or behind the call that comes after so many; undefined: not by itself. */
  dieAfter(steps: number | undefined): void {
    this.#stepsLeft = steps ?? Number.POSITIVE_INFINITY;
  }

  /** The same object as the process sees it; `waits` names the methods that return promises. */
  sees<T extends object>(target: T, waits: readonly (keyof T)[]): T {
    return new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function') return value;
        const isWaiting = waits.includes(name as keyof T);
        return (...args: unknown[]): unknown =>
          this.#call(String(name), isWaiting, () => Reflect.apply(value, target, args) as unknown);
      },
    });
  }

  /** A callback to the world outside: it happens, or not. */
  says<Args extends unknown[]>(tell: (...args: Args) => void): (...args: Args) => void {
    return (...args) => void this.#call('tell', false, () => tell(...args));
  }

  #call(name: string, isWaiting: boolean, call: () => unknown): unknown {
    const end = (): unknown => {
      if (isWaiting) return never;
      throw new Died();
    };
    if (this.#isDead) return end();
    const isLast = (this.#stepsLeft -= 1) < 0;
    if (isLast) this.lastStep = name;
    if (isLast && this.#random.chance(0.5)) {
      this.die();
      return end();
    }
    const result = call();
    if (!isWaiting) {
      if (isLast) this.die();
      return isLast ? end() : result;
    }
    return Promise.resolve(result).then(
      (value) => this.#answer(isLast, value),
      (error: unknown) => this.#answer(isLast, Promise.reject(error as Error)),
    );
  }

  #answer(isLast: boolean, value: unknown): unknown {
    if (isLast) this.die();
    if (!this.#isDead) return value;
    if (value instanceof Promise) value.catch(() => undefined);
    return never;
  }
}
