import { shardOf } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import { Slice } from '../jobs/slice.ts';
import type { RevocationRecord, StoreReader } from '../store/port.ts';
import type { ParsedRevoked } from '../x509/crl-entries.ts';
import { entryOf, fullScope, type RevokedLists } from './revoked-lists.ts';

/** Rows of one look at the store: a few milliseconds. */
const pageRows = 500;

/**
 * Holds the lists of CRLs that were stored against the store's own rows, and puts right what they say otherwise: after a
 * crash what came since, after a restore everything. Returns the scopes that have to be published for it. Yields to the event
 * loop after each page of rows.
 */
export async function reconcile(
  lists: RevokedLists,
  store: Pick<StoreReader, 'standingBySerial' | 'revocationsAfter'>,
  issuerKeyId: string,
  shardCount: number,
): Promise<string[]> {
  const scopes = [fullScope, ...Array.from({ length: shardCount }, (_, shard) => String(shard))];
  const walks = new Map(scopes.map((scope) => [scope, new Walk(lists.of(scope).all())]));
  const wrong = new Set<string>();
  const slice = new Slice();
  const correct = (): void => {
    const changes = [...walks].flatMap(([scope, walk]) => {
      const some = walk.changes();
      return some.size > 0 ? [[scope, some] as const] : [];
    });
    for (const [scope] of changes) wrong.add(scope);
    lists.correct(new Map(changes));
  };
  // What was covered and then released is no row of those below.
  for (let leafIndex = lists.coversTreeSize - 1; ; ) {
    const rows = store.revocationsAfter(issuerKeyId, { leafIndex }, pageRows);
    for (const row of rows) lists.cover(row);
    if (rows.length < pageRows) break;
    leafIndex = rows.at(-1)?.leafIndex ?? leafIndex;
    if (slice.isOver) await slice.turn();
  }
  for (let after = ''; ; ) {
    const rows = store.standingBySerial(issuerKeyId, after, pageRows);
    for (const row of rows) {
      lists.cover(row);
      // Dated by the next CRL.
      if (row.crlDateSeconds === undefined) lists.add(row);
      for (const scope of [fullScope, String(shardOf(row.serial, shardCount))])
        walks.get(scope)?.compare(row);
    }
    correct();
    if (rows.length < pageRows) break;
    after = rows.at(-1)?.serial ?? '';
    if (slice.isOver) await slice.turn();
  }
  for (const walk of walks.values()) walk.finish();
  correct();
  return [...wrong];
}

/** One list beside the rows, both in serial order. */
class Walk {
  readonly #entries: Iterator<ParsedRevoked>;
  #changes = new Map<Serial, Buffer | undefined>();
  #next: ParsedRevoked | undefined;

  constructor(entries: Iterator<ParsedRevoked>) {
    this.#entries = entries;
    this.#step();
  }

  /** What the row wants to stand there does, or is to be changed. */
  compare(row: RevocationRecord): void {
    while (this.#next && this.#next.serial < row.serial) this.#takeOut(this.#next);
    const listed = this.#next?.serial === row.serial ? this.#next : undefined;
    if (listed) this.#step();
    if (row.crlDateSeconds === undefined) {
      if (listed) this.#changes.set(row.serial, undefined);
    } else if (!listed || !isSame(listed, row)) this.#changes.set(row.serial, entryOf(row));
  }

  /** After the last row. */
  finish(): void {
    while (this.#next) this.#takeOut(this.#next);
  }

  /** What has to change, and was not told before. */
  changes(): ReadonlyMap<Serial, Buffer | undefined> {
    const changes = this.#changes;
    this.#changes = new Map();
    return changes;
  }

  #takeOut({ serial }: ParsedRevoked): void {
    this.#changes.set(serial, undefined);
    this.#step();
  }

  #step(): void {
    const next = this.#entries.next();
    this.#next = next.done === true ? undefined : next.value;
  }
}

function isSame(listed: ParsedRevoked, row: RevocationRecord): boolean {
  const { dateSeconds, reason, invalidityDateSeconds } = listed;
  return (
    dateSeconds === row.crlDateSeconds &&
    reason === row.reason &&
    invalidityDateSeconds === row.invalidityDateSeconds
  );
}
