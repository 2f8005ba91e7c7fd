import { shardOf } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import { fullScope } from '../revocation/revoked-lists.ts';
import type { StateRows, StoredCrlScope, StoredRevocation } from '../store/rows-port.ts';
import type { CrlScopeReading, StoredHead } from './crl-scope.ts';
import { deltaScope } from './crl-scope.ts';
import { type Events, ListedCrl, storedTbs } from './listed-crl.ts';
import { RowWalk } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 256;

interface Parts {
  issuerKeyId: string;
  scopes: readonly CrlScopeReading[];
  rows: StateRows;
  shardCount: number;
  problems: Problems;
}

/**
 * Holds the CRLs of one issuer that count now, newest and served, against its revocations: what counted by the leaves
 * that a CRL covers stands on it with its reason and date, nothing else does, and what left had stood on a scheduled CRL
 * past its notAfter (I5). A delta says so together with its base. One pass in serial order, the order of all.
 */
export function checkCoverage(parts: Parts): void {
  const { issuerKeyId, rows, shardCount, problems } = parts;
  const { lists, deltas } = listsOf(parts);
  const marks = rows.crlScopes().filter((mark) => mark.issuerKeyId === issuerKeyId);
  const revocations = new RowWalk<StoredRevocation>((last) =>
    rows.revocationsBySerial(issuerKeyId, last?.serial ?? '', pageRows),
  );
  for (const row of revocations.rest()) {
    const inScope = ({ scope }: { scope: string }): boolean =>
      scope === fullScope || scope === shardIn(row, shardCount);
    const events = eventsOf(row, rows);
    const concerned = lists.filter(inScope);
    for (const list of concerned) list.take(events);
    for (const { delta, base } of deltas) delta.takeDelta(events, base);
    const isListed = [...concerned, ...deltas.map(({ delta }) => delta)].some(({ entry }) => entry);
    if (row.reason !== 'removeFromCRL' && row.crlDateSeconds !== null && row.mayLeave === 0 && !isListed)
      problems.add(`${named(row)}: it has a date, ${row.crlDateSeconds}, and stands on no CRL`);
    checkLeaving(events, parts.scopes.filter(inScope), marks.filter(inScope), problems);
  }
  for (const list of lists) list.finish();
  for (const { delta } of deltas) delta.finish();
}

/** What follows one that left has left with it. */
function checkLeaving(
  events: Events,
  scopes: readonly CrlScopeReading[],
  marks: readonly StoredCrlScope[],
  problems: Problems,
): void {
  for (const event of events) {
    if (event.mayLeave === 0 || event.precedingMayLeave === 1) continue;
    const past = scopes.some((scope) => scope.hasLeafAfter(event.leafIndex, event.notAfterMs));
    const scheduled = marks.some(
      (mark) =>
        (mark.scheduledThisUpdateSeconds ?? 0) * 1000 > event.notAfterMs &&
        (mark.scheduledCoversTreeSize ?? 0) > event.leafIndex,
    );
    if (event.crlDateSeconds === null || !past || !scheduled)
      problems.add(`${named(event)}: it may leave though no scheduled CRL past its notAfter carried it`);
  }
}

function named({ serial, leafIndex }: StoredRevocation): string {
  return `the revocation of ${serial}, leaf ${leafIndex}`;
}

function eventsOf(row: StoredRevocation, rows: StateRows): Events {
  if (row.precedingFollowedBy === null) return [row];
  const [first = row, ...rest] = rows.earlierRevocations(row.issuerKeyId, row.serial);
  return first === row ? [row] : [first, ...rest, row];
}

function shardIn({ serial }: StoredRevocation, shardCount: number): string {
  return String(shardOf(serial as Serial, shardCount));
}

function listsOf({ scopes, rows, problems }: Parts): {
  lists: ListedCrl[];
  deltas: { delta: ListedCrl; base: ListedCrl | undefined }[];
} {
  const read = (head: StoredHead): ListedCrl[] => {
    const [row] = rows.crls(head.leafIndex - 1, 1);
    return row ? [new ListedCrl(head, storedTbs(rows, row), problems)] : [];
  };
  const listsIn = (reading: CrlScopeReading, heads: readonly StoredHead[]): ListedCrl[] =>
    problems.attempt(`the CRLs of scope ${reading.scope}`, () => heads.flatMap(read)) ?? [];
  const served = (isWanted: (scope: string) => boolean): ListedCrl[] =>
    scopes.filter(({ scope }) => isWanted(scope)).flatMap((reading) => listsIn(reading, reading.served()));
  const lists = served((scope) => scope !== deltaScope);
  const full = scopes.find(({ scope }) => scope === fullScope);
  const deltas = served((scope) => scope === deltaScope).map((delta) => {
    const isBase = ({ crlNumber, scope }: { crlNumber: string; scope: string }): boolean =>
      scope === fullScope && crlNumber === delta.deltaBase;
    let base = lists.find(isBase);
    if (!base && full) {
      [base] = listsIn(full, full.rows.filter(isBase));
      if (base) lists.push(base);
    }
    return { delta, base };
  });
  return { lists, deltas };
}
