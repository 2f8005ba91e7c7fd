import type { RegistrationEntry } from '../core/registration.ts';
import type { SpiffeId } from '../core/spiffe-id.ts';
import type { StoreReader } from '../store/port.ts';

const pageRows = 1000;

/** Every registration entry of an identity, however many join tokens left one behind; newest first. */
export function entriesOf(store: Pick<StoreReader, 'entries'>, spiffeId: SpiffeId): RegistrationEntry[] {
  const found: RegistrationEntry[] = [];
  let page = store.entries({ limit: pageRows, spiffeId });
  for (;;) {
    found.push(...page);
    const last = page.at(-1);
    if (!last || page.length < pageRows) return found;
    page = store.entries({ limit: pageRows, spiffeId, after: last.entryId });
  }
}
