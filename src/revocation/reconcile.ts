import type { Serial } from '../core/serial.ts';
import { Slice } from '../jobs/slice.ts';
import type { StoreReader } from '../store/port.ts';
import type { RevocationRecord } from '../store/records.ts';
import type { ParsedRevoked } from '../x509/crl-entries.ts';
import { entryOf, isStanding, type RevokedLists } from './revoked-lists.ts';

/** Rows of one look at the store: a few milliseconds. */
const pageRows = 500;

/** Events that are taken in one by one; of more, as after a restore, the lists are made anew. */
const sinceMost = 5000;

type Reads = Pick<StoreReader, 'revocation' | 'revocationsAfter' | 'standingBySerial'>;

/**
 * Takes in the events that came after the CRLs that were adopted. True where that makes the lists say all that is to be
 * said; false where too much came since, as after a restore: then `reconcile` does.
 */
export async function takeSince(
  lists: RevokedLists,
  store: Reads,
  issuerKeyId: string,
  scopes: readonly string[],
): Promise<boolean> {
  const covered = new Map(scopes.map((scope) => [scope, lists.coveredBy(scope)]));
  const from = Math.min(...covered.values());
  const slice = new Slice();
  const since: RevocationRecord[] = [];
  for (let leafIndex = from - 1; ; ) {
    const rows = store.revocationsAfter(issuerKeyId, { leafIndex }, pageRows);
    for (const row of rows)
      if (lists.scopesOf(row.serial).some((scope) => row.leafIndex >= (covered.get(scope) ?? 0)))
        since.push(row);
    if (since.length > sinceMost) return false;
    if (rows.length < pageRows) break;
    leafIndex = rows.at(-1)?.leafIndex ?? leafIndex;
    if (slice.isOver) await slice.turn();
  }
  for (const row of since) lists.add(row);
  return true;
}

/**
 * Holds the lists of CRLs that were stored against the store's own rows, and puts right what they say otherwise: after a
 * restore everything. Returns the scopes that have to be published for it. Takes turns with others, to whom the lists belong
 * as well: what is put right is what the store says at that moment. `first`: nothing was taken in before. `isOver`: nobody
 * wants to know any more; then undefined.
 */
export async function reconcile(
  lists: RevokedLists,
  store: Reads,
  issuerKeyId: string,
  { scopes, first, isOver }: { scopes: readonly string[]; first: boolean; isOver: () => boolean },
): Promise<string[] | undefined> {
  const walks = new Map(scopes.map((scope) => [scope, new Walk(lists.of(scope).all())]));
  const wrong = new Set<string>();
  const slice = new Slice();
  const correct = (): void => {
    const changes = [...walks].flatMap(([scope, walk]) => {
      const list = lists.of(scope);
      const some = [...walk.suspects()].flatMap((serial) =>
        changeOf(serial, store.revocation(issuerKeyId, serial), list.find(serial)),
      );
      return some.length > 0 ? [[scope, new Map(some)] as const] : [];
    });
    for (const [scope] of changes) wrong.add(scope);
    lists.correct(new Map(changes));
  };
  if (first) await coverAll(lists, store, issuerKeyId, slice);
  for (let after = ''; ; ) {
    if (isOver()) return undefined;
    const rows = store.standingBySerial(issuerKeyId, after, pageRows);
    for (const row of rows) {
      if (first) lists.cover(row);
      // Dated by the next CRL.
      if (first && row.crlDateSeconds === undefined) lists.add(row);
      for (const scope of lists.scopesOf(row.serial)) walks.get(scope)?.compare(row);
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

/** What was released is no row that stands. */
async function coverAll(lists: RevokedLists, store: Reads, issuerKeyId: string, slice: Slice): Promise<void> {
  for (let leafIndex = lists.coversTreeSize - 1; ; ) {
    const rows = store.revocationsAfter(issuerKeyId, { leafIndex }, pageRows);
    for (const row of rows) lists.cover(row);
    if (rows.length < pageRows) return;
    leafIndex = rows.at(-1)?.leafIndex ?? leafIndex;
    if (slice.isOver) await slice.turn();
  }
}

/** What a serial has to have on its lists; nothing is changed where its date is still to be decided. */
function changeOf(
  serial: Serial,
  record: RevocationRecord | undefined,
  listed: ParsedRevoked | undefined,
): [serial: Serial, entry: Buffer | undefined][] {
  if (!record || !isStanding(record) || record.mayLeave) return listed ? [[serial, undefined]] : [];
  if (record.crlDateSeconds === undefined || (listed && isSame(listed, record))) return [];
  return [[serial, entryOf(record)]];
}

/** One list beside the rows, both in serial order. */
class Walk {
  readonly #entries: Iterator<ParsedRevoked>;
  #suspects = new Set<Serial>();
  #next: ParsedRevoked | undefined;

  constructor(entries: Iterator<ParsedRevoked>) {
    this.#entries = entries;
    this.#step();
  }

  /** What the row wants to stand there does, or is looked into. */
  compare(row: RevocationRecord): void {
    while (this.#next && this.#next.serial < row.serial) this.#suspect(this.#next);
    const listed = this.#next?.serial === row.serial ? this.#next : undefined;
    if (listed) this.#step();
    if (!listed || !isSame(listed, row)) this.#suspects.add(row.serial);
  }

  /** After the last row. */
  finish(): void {
    while (this.#next) this.#suspect(this.#next);
  }

  /** What does not fit, and was not told before. */
  suspects(): ReadonlySet<Serial> {
    const suspects = this.#suspects;
    this.#suspects = new Set();
    return suspects;
  }

  #suspect({ serial }: ParsedRevoked): void {
    this.#suspects.add(serial);
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
