import { VouchError } from '../../../src/core/errors.ts';

/** The code that something was refused with, or `allowed`: what an attack is measured by. */
export async function codeOf(attempt: () => unknown): Promise<string> {
  try {
    await attempt();
    return 'allowed';
  } catch (error) {
    return error instanceof VouchError ? error.code : `thrown: ${String(error)}`;
  }
}

/** The codes of several attempts made at once. */
export function codesOf(attempts: readonly (() => unknown)[]): Promise<string[]> {
  return Promise.all(attempts.map((attempt) => codeOf(attempt)));
}

/** Waits for a condition, 10 s at the most; resolves to whether it came true. */
export async function becomes(
  condition: () => boolean | Promise<boolean>,
  withinMs = 10_000,
): Promise<boolean> {
  const end = performance.now() + withinMs;
  while (performance.now() < end) {
    if (await condition()) return true;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  return false;
}
