import { shardOf } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import { fullScope } from '../revocation/revoked-set.ts';
import type { StateRows, StoredRevocation } from '../store/rows-port.ts';
import { parseTbsCrl } from '../x509/crl.ts';
import type { ParsedRevoked } from '../x509/crl-entries.ts';
import type { CrlScopeReading, StoredHead } from './crl-scope.ts';
import { RowWalk } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 256;

/**
 * Holds the CRLs of one issuer that count now, newest and served, against its revocations: each revocation that a CRL
 * covers stands on it with its reason and date, nothing else does, and what left had stood on a scheduled CRL past its
 * notAfter (I5). One pass in serial order, the order of both.
 */
export function checkCoverage(parts: {
  issuerKeyId: string;
  scopes: readonly CrlScopeReading[];
  rows: StateRows;
  shardCount: number;
  problems: Problems;
}): void {
  const { issuerKeyId, scopes, rows, shardCount, problems } = parts;
  const lists = scopes.flatMap((reading) => {
    const list = problems.attempt(`the CRLs of scope ${reading.scope}`, () =>
      listsOf(reading, rows, problems),
    );
    return list ?? [];
  });
  const marks = rows.crlScopes().filter((mark) => mark.issuerKeyId === issuerKeyId);
  const revocations = new RowWalk<StoredRevocation>((last) =>
    rows.revocationsBySerial(issuerKeyId, last?.serial ?? '', pageRows),
  );
  for (const row of revocations.rest()) {
    const inScope = ({ scope }: { scope: string }): boolean =>
      scope === fullScope || scope === shardIn(row, shardCount);
    const listed = lists.filter(inScope).map((list) => list.take(row));
    const what = `the revocation of ${row.serial}, leaf ${row.leafIndex}`;
    if (row.crlDateSeconds !== null && row.mayLeave === 0 && !listed.includes(true))
      problems.add(`${what}: it has a date, ${row.crlDateSeconds}, and stands on no CRL`);
    if (row.mayLeave === 0) continue;
    const past = scopes.filter(inScope).some((scope) => scope.hasLeafAfter(row.leafIndex, row.notAfterMs));
    const scheduled = marks
      .filter(inScope)
      .some(
        (mark) =>
          (mark.scheduledThisUpdateSeconds ?? 0) * 1000 > row.notAfterMs &&
          (mark.scheduledCoversTreeSize ?? 0) > row.leafIndex,
      );
    if (row.crlDateSeconds === null || !past || !scheduled)
      problems.add(`${what}: it may leave though no scheduled CRL past its notAfter carried it`);
  }
  for (const list of lists) list.finish();
}

function shardIn({ serial }: StoredRevocation, shardCount: number): string {
  return String(shardOf(serial as Serial, shardCount));
}

function listsOf(reading: CrlScopeReading, rows: StateRows, problems: Problems): CrlList[] {
  return reading.served().flatMap((head) => {
    const [row] = rows.crls(head.leafIndex - 1, 1);
    return row ? [new CrlList(head, row.tbs, problems)] : [];
  });
}

/** The entries of one CRL, walked beside the revocations in serial order. */
class CrlList {
  readonly scope: string;
  readonly #head: StoredHead;
  readonly #what: string;
  readonly #problems: Problems;
  readonly #entries: Iterator<ParsedRevoked>;
  #next: ParsedRevoked | undefined;

  /** Throws `request-malformed` for bytes that are no CRL. */
  constructor(head: StoredHead, tbs: Buffer, problems: Problems) {
    const crl = parseTbsCrl(tbs);
    this.scope = head.scope;
    this.#head = head;
    this.#what = `CRL ${head.crlNumber} (${head.scope}) of leaf ${head.leafIndex}`;
    this.#problems = problems;
    this.#entries = crl.revoked()[Symbol.iterator]();
    if (!crl.ascending) problems.add(`${this.#what}: its serials do not rise`);
    this.#advance();
  }

  /** True where the revocation stands on it; says what is wrong with how it does, or that it must. */
  take(row: StoredRevocation): boolean {
    while (this.#next && this.#next.serial < row.serial) this.#stranger(this.#next);
    const entry = this.#next?.serial === row.serial ? this.#next : undefined;
    if (entry) {
      this.#advance();
      this.#compare(row, entry);
    } else if (row.leafIndex < this.#head.coversTreeSize && row.mayLeave === 0)
      this.#problems.add(`${this.#what}: it covers leaf ${row.leafIndex} and does not list ${row.serial}`);
    return entry !== undefined;
  }

  finish(): void {
    while (this.#next) this.#stranger(this.#next);
  }

  #compare(row: StoredRevocation, entry: ParsedRevoked): void {
    if (row.reason !== entry.reason)
      this.#problems.add(
        `${this.#what}: it gives ${row.serial} the reason ${entry.reason}, the store ${row.reason}`,
      );
    if (row.crlDateSeconds !== entry.dateSeconds)
      this.#problems.add(
        `${this.#what}: it gives ${row.serial} the date ${entry.dateSeconds}, the store ${row.crlDateSeconds}`,
      );
    // One that was imported by a restore covers nothing of this log.
    if (this.#head.coversTreeSize > 0 && row.leafIndex >= this.#head.coversTreeSize)
      this.#problems.add(
        `${this.#what}: it covers ${this.#head.coversTreeSize} leaves and lists leaf ${row.leafIndex}`,
      );
  }

  #stranger({ serial }: ParsedRevoked): void {
    this.#problems.add(
      `${this.#what}: it lists ${serial}, which the store does not know as revoked by its issuer`,
    );
    this.#advance();
  }

  #advance(): void {
    const next = this.#entries.next();
    this.#next = next.done === true ? undefined : next.value;
  }
}
