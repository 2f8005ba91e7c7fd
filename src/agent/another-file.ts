import { statSync } from 'node:fs';
import type { Clock } from '../core/clock.ts';
import { type Moment, momentOf, sleepUntil } from './moment.ts';
import type { Sleep } from './sleep.ts';

/** How often the file is looked at: an operator who puts another there expects seconds. */
const lookMs = 1000;

/** Tells what lies at a path from what lay there before, with its mode; '' where there is nothing that can be looked at. */
export function versionOf(path: string): string {
  try {
    const { ino, ctimeMs, mtimeMs, size } = statSync(path);
    return `${ino} ${ctimeMs} ${mtimeMs} ${size}`;
  } catch {
    return '';
  }
}

/** As `sleepUntil`, or until something lies at `path` that is not of this version; true then. */
export async function anotherFileUntil(
  due: () => Moment,
  { path, version }: { path: string; version: string },
  parts: { clock: Clock; signal: AbortSignal; sleep: Sleep },
): Promise<boolean> {
  // One that is gone is about to be replaced.
  const isAnother = (): boolean => !['', version].includes(versionOf(path));
  await sleepUntil(() => (isAnother() ? momentOf(0, parts.clock) : due()), parts, lookMs);
  return isAnother();
}
