import { hash } from 'node:crypto';
import type { StateRows, StoredCrl, StoredCrlScope } from '../store/rows-port.ts';
import { type CrlBody, decodeCrlBody, type Leaf } from '../log/leaf.ts';
import { parseTbsCrl } from '../x509/crl.ts';
import type { Authorities } from './authorities.ts';
import { CrlScopeReading, deltaScope } from './crl-scope.ts';
import { storedTbs } from './listed-crl.ts';
import { LeafRows } from './row-walk.ts';
import type { Problems } from './verification.ts';

/** A CRL can have tens of megabytes: one at a time. */
const pageRows = 1;

/**
 * Holds every stored CRL against its leaf and its own bytes, and the scopes' marks against both: numbers rise, and the
 * newest CRLs of each scope are there. A CRL without signature is what a crash leaves; the root's are made whole.
 */
export class CrlCheck {
  readonly #rows: StateRows;
  readonly #walk: LeafRows<StoredCrl>;
  readonly #authorities: Authorities;
  readonly #problems: Problems;
  readonly #scopes = new Map<string, CrlScopeReading>();

  constructor(rows: StateRows, authorities: Authorities, problems: Problems) {
    this.#rows = rows;
    this.#authorities = authorities;
    this.#problems = problems;
    this.#walk = new LeafRows(rows.crls, pageRows, (row) =>
      problems.add(`${named(row)} of leaf ${row.leafIndex} is not in the log`),
    );
  }

  /** What was read of each scope; whole after the last leaf. */
  scopes(): CrlScopeReading[] {
    return [...this.#scopes.values()];
  }

  leaf(leaf: Leaf, index: number): void {
    if (leaf.type !== 'crl') return;
    const body = decodeCrlBody(leaf.body);
    const reading = this.#reading(leaf.issuerKeyId, body.scope);
    if (body.crlNumber <= (reading.newest?.crlNumber ?? -1n))
      this.#problems.add(
        `${named(body)} of leaf ${index} does not have a higher number than those before it`,
      );
    const row = this.#walk.at(index);
    reading.add({ index, timeMs: leaf.timeMs, crlNumber: body.crlNumber, stored: row !== undefined });
    if (!row) return;
    const { head: _head, tail: _tail, pieces: _pieces, signature, ...head } = row;
    reading.rows.push({ ...head, signed: signature !== null });
    this.#problems.attempt(`${named(body)} of leaf ${index}`, () => this.#compare(row, leaf, body));
  }

  finish(): void {
    this.#walk.finish();
    for (const { scope, last } of this.scopes())
      for (const { index, crlNumber, stored } of last)
        if (!stored)
          this.#problems.add(
            `${named({ crlNumber, scope })} of leaf ${index} is one that the store does not have`,
          );
    this.#marks();
  }

  #reading(issuerKeyId: string, scope: string): CrlScopeReading {
    const key = `${issuerKeyId} ${scope}`;
    const reading = this.#scopes.get(key) ?? new CrlScopeReading(issuerKeyId, scope);
    this.#scopes.set(key, reading);
    return reading;
  }

  #compare(row: StoredCrl, leaf: Leaf, body: CrlBody): void {
    const what = `${named(body)} of leaf ${row.leafIndex}`;
    const { issuerKeyId } = leaf;
    this.#problems.compare(what, row, { issuerKeyId, scope: body.scope, crlNumber: String(body.crlNumber) });
    const tbs = storedTbs(this.#rows, row);
    if (!hash('sha256', tbs, 'buffer').equals(body.tbsSha256)) {
      this.#problems.add(`${what}: its tbs is another than was logged`);
      return;
    }
    const { thisUpdateSeconds, nextUpdateSeconds, crlNumber, authorityKeyId, deltaBase } = parseTbsCrl(tbs);
    this.#problems.compare(what, row, { thisUpdateSeconds, nextUpdateSeconds });
    if (crlNumber !== body.crlNumber || authorityKeyId !== issuerKeyId)
      this.#problems.add(`${what}: it says another number or authority key id than its leaf`);
    if ((deltaBase !== undefined) !== (body.scope === deltaScope) || (deltaBase ?? 0n) > body.crlNumber)
      this.#problems.add(`${what}: it is not a delta where it must be one, or of a base to come`);
    if (row.coversTreeSize > row.leafIndex)
      this.#problems.add(`${what}: it covers ${row.coversTreeSize} leaves, more than were before it`);
    if (row.signature && !this.#authorities.signed(issuerKeyId, tbs, row.signature))
      this.#problems.add(`${what}: its signature does not verify`);
    if (!row.signature && this.#authorities.isRoot(issuerKeyId))
      this.#problems.add(`${what}: the root ${issuerKeyId} left it without signature`);
  }

  /** What outlives the rows of CRLs: the last number, and the newest scheduled one, which lets expired entries leave. */
  #marks(): void {
    const marks = new Map(this.#rows.crlScopes().map((row) => [`${row.issuerKeyId} ${row.scope}`, row]));
    for (const reading of this.scopes()) {
      const key = `${reading.issuerKeyId} ${reading.scope}`;
      this.#compareMark(reading, marks.get(key));
      marks.delete(key);
    }
    for (const key of marks.keys()) this.#problems.add(`the scope of CRLs ${key} is not in the log`);
  }

  #compareMark(reading: CrlScopeReading, mark: StoredCrlScope | undefined): void {
    const what = `scope ${reading.scope} of ${reading.issuerKeyId}`;
    this.#problems.compare(what, mark ?? {}, { lastNumber: String(reading.newest?.crlNumber) });
    const scheduled = reading.scheduled();
    if (scheduled)
      this.#problems.compare(what, mark ?? {}, {
        scheduledThisUpdateSeconds: scheduled.thisUpdateSeconds,
        scheduledCoversTreeSize: scheduled.coversTreeSize,
      });
    else if (!couldBeScheduled(reading, mark))
      this.#problems.add(`${what}: the scheduled CRL that it names is not one that was logged as such`);
  }
}

function named({ crlNumber, scope }: { crlNumber: bigint | string; scope: string }): string {
  return `CRL ${crlNumber} (${scope})`;
}

/** Of a scheduled CRL that is stored no more: it was dated before its leaf, and its row would say that it was scheduled. */
function couldBeScheduled(reading: CrlScopeReading, mark: StoredCrlScope | undefined): boolean {
  const { scheduledThisUpdateSeconds: thisUpdate, scheduledCoversTreeSize: covers } = mark ?? {};
  return (
    (thisUpdate ?? 0) * 1000 <= reading.latestMs &&
    (covers ?? 0) <= (reading.newest?.index ?? 0) &&
    reading.rows.every((row) => row.scheduled === 1 || row.thisUpdateSeconds !== thisUpdate)
  );
}
