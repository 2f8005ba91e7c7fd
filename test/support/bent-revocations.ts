import type { Store } from '../../src/store/port.ts';
import type { RevocationRecord } from '../../src/store/records.ts';

/** Has a store say otherwise of its revocations than it knows, until the returned function is called. */
export function bendRevocations(
  store: Store,
  bend: (record: RevocationRecord) => RevocationRecord,
): () => void {
  const [standing, after, one] = [
    store.standingBySerial.bind(store),
    store.revocationsAfter.bind(store),
    store.revocation.bind(store),
  ];
  store.standingBySerial = (...asked) => standing(...asked).map(bend);
  store.revocationsAfter = (...asked) => after(...asked).map(bend);
  store.revocation = (...asked) => [one(...asked)].map((record) => record && bend(record))[0];
  return () => {
    Object.assign(store, { standingBySerial: standing, revocationsAfter: after, revocation: one });
  };
}
