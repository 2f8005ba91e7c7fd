import type { RevocationRecord, StoreReader } from './port.ts';

const pageRows = 1_000;

/** What still has to stand on CRLs of an issuer, in serial order, read in pages. */
export function* allStanding(
  store: Pick<StoreReader, 'standingBySerial'>,
  issuerKeyId: string,
): Generator<RevocationRecord> {
  yield* pages((last) => store.standingBySerial(issuerKeyId, last?.serial ?? '', pageRows));
}

/** The events of an issuer that count with a leaf behind this one, by leaf, read in pages. */
export function* allRevocationsAfter(
  store: Pick<StoreReader, 'revocationsAfter'>,
  issuerKeyId: string,
  leafIndex: number,
): Generator<RevocationRecord> {
  yield* pages((last) =>
    store.revocationsAfter(issuerKeyId, { leafIndex: last?.leafIndex ?? leafIndex }, pageRows),
  );
}

function* pages<T>(read: (last: T | undefined) => T[]): Generator<T> {
  for (let page = read(undefined); page.length > 0; page = read(page.at(-1))) {
    yield* page;
    if (page.length < pageRows) return;
  }
}
