import type { StoreReader } from './port.ts';
import type { RevocationRecord } from './records.ts';

const pageRows = 1_000;

/** What still has to stand on CRLs of an issuer, in serial order, read in pages. */
export function* allStanding(
  store: Pick<StoreReader, 'standingBySerial'>,
  issuerKeyId: string,
): Generator<RevocationRecord> {
  for (let after = ''; ; ) {
    const page = store.standingBySerial(issuerKeyId, after, pageRows);
    yield* page;
    if (page.length < pageRows) return;
    after = page.at(-1)?.serial ?? '';
  }
}
