import { VouchError } from '../core/errors.ts';
import { type RegistrationEntry, type Selector, selectorText } from '../core/registration.ts';
import type { StoreReader } from '../store/port.ts';

/**
 * selectors → registration entry, never one that an agent asks for in the name of its workloads. Throws `denied-no-entry` where none matches (deny by default, I7), and
 * `denied-suspended` where the only ones are suspended.
 */
export function matchEntry(
  store: Pick<StoreReader, 'entriesMatching'>,
  selectors: readonly Selector[],
  wanted: readonly string[],
): RegistrationEntry {
  const found = store.entriesMatching(selectors.map(selectorText));
  const matching = found.filter((entry) => entry.parentId === undefined);
  if (matching.length === 0)
    throw new VouchError(
      'denied-no-entry',
      'no registration entry matches this evidence; the operator must create one',
    );
  const live = matching.filter((entry) => entry.suspendedAtMs === undefined);
  const entry = live.find((one) => wanted.includes(one.spiffeId)) ?? live[0];
  if (!entry)
    throw new VouchError(
      'denied-suspended',
      'this identity is suspended; the operator can lift that with `vouch entry resume`',
    );
  return entry;
}
