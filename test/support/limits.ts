/** Milliseconds a call takes at best of three; limits are threefold in CI. */
export function bestOfThreeMs(call: () => unknown): number {
  const runs = [0, 1, 2].map(() => {
    const start = performance.now();
    call();
    return performance.now() - start;
  });
  return Math.min(...runs);
}

/** A limit in milliseconds, threefold in CI. */
export function limitMs(milliseconds: number): number {
  return process.env.CI ? milliseconds * 3 : milliseconds;
}

/** Microseconds a call takes once it is compiled: best of three thousands. */
export function bestOfThreeMicros(call: () => unknown): number {
  const thousand = (): void => {
    for (let i = 0; i < 1000; i++) call();
  };
  for (let i = 0; i < 5; i++) thousand();
  return bestOfThreeMs(thousand);
}
