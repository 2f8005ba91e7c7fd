import { shardOf } from '../core/publication.ts';
import type { Serial } from '../core/serial.ts';
import type { Issuer } from '../issuance/issuer.ts';
import { Slice } from '../jobs/slice.ts';
import { lintParsedCrl } from '../lint/crl.ts';
import type { StoreReader } from '../store/port.ts';
import type { RevocationRecord } from '../store/records.ts';
import type { ParsedCrlHead } from '../x509/crl.ts';
import type { ParsedRevoked } from '../x509/crl-entries.ts';
import { CrlList } from '../x509/crl-list.ts';
import type { CrlBytes } from '../x509/crl-tbs.ts';
import { readTbs } from './read-tbs.ts';
import { type DeltaBase, deltaScope, fullScope, isStanding } from './revoked-lists.ts';

/** The last signed CRL of a scope, which the next one has to follow. */
export interface Predecessor {
  crlNumber: bigint;
  thisUpdateSeconds: number;
  nextUpdateSeconds: number;
  coversTreeSize: number;
  list: CrlList;
  /** Of a delta: the number of its base. */
  deltaBase: bigint | undefined;
}

/** A CRL that wants a number, a leaf and a signature, and then to be published. */
export interface Candidate {
  tbs: CrlBytes;
  scope: string;
  issuer: Issuer;
  shardCount: number;
  /** Its URL; for a shard the only name its IDP may carry. */
  url: string;
  /** The delta's URL, which a full CRL names. */
  deltaUrl: string;
  previous: Predecessor | undefined;
  /** What a delta goes with. */
  base: DeltaBase | undefined;
  /** The store's truth. */
  store: Pick<StoreReader, 'revocation' | 'revocationEvents' | 'revocationsAfter'>;
  /** Events with a smaller leaf index must be on it. */
  coversTreeSize: number;
  nowMs: number;
}

/** Rows of one look at the store: a few milliseconds. */
const pageRows = 500;

/**
 * I5 as code: reads CRLs with another reader than their writer, before anything of them is committed, so that what is held
 * back leaves no trace that a restart could serve. Resolves with everything that is wrong with each; without problems it may
 * be signed and published, anything else keeps the previous one served. What the previous one said was judged then: only
 * what differs from it is looked up. All are of one issuer and were drafted in one turn. Yields between slices.
 */
export async function publishGate(candidates: readonly Candidate[]): Promise<string[][]> {
  const found: Judged[] = [];
  for (const candidate of candidates)
    found.push({ candidate, problems: await problemsOf(candidate), asRecorded: 0 });
  if (__VOUCH_WITHOUT__ === 'I5') return found.map(({ problems }) => problems);
  await missing(found);
  for (const { candidate, problems, asRecorded } of found) {
    // Without a predecessor, as after a restore: an entry for each event, and no other, was just seen.
    const isAll = followed(candidate) === undefined && asRecorded === candidate.tbs.list.count;
    if (!isAll) problems.push(...(await entryProblems(candidate)));
  }
  return found.map(({ problems }) => problems);
}

interface Judged {
  candidate: Candidate;
  problems: string[];
  /** How many of its entries an event was found for that says the same. */
  asRecorded: number;
}

async function problemsOf(candidate: Candidate): Promise<string[]> {
  let crl: ParsedCrlHead;
  try {
    crl = await readTbs(candidate.tbs);
  } catch (error) {
    return [`it does not parse: ${error instanceof Error ? error.message : 'unknown'}`];
  }
  if (__VOUCH_WITHOUT__ === 'I5') return [];
  return [
    ...lintParsedCrl(crl).map(({ detail }) => detail),
    ...formProblems(crl, candidate),
    ...(candidate.previous ? successionProblems(crl, candidate.previous) : []),
  ];
}

/** Whether it speaks for the scope that this URL serves: a shard's IDP names it (RFC 5280 §5.2.5), others have none. */
export function speaksFor(crl: Pick<ParsedCrlHead, 'idp'>, scope: string, url: string): boolean {
  return scope === fullScope || scope === deltaScope ? crl.idp === undefined : crl.idp?.urls.join() === url;
}

function formProblems(crl: ParsedCrlHead, candidate: Candidate): string[] {
  const { issuer, scope, url, deltaUrl, base, nowMs } = candidate;
  const problems: string[] = [];
  if (!crl.issuerName.equals(issuer.issuerName)) problems.push('its issuer is another');
  if (crl.authorityKeyId !== issuer.keyId) problems.push('its authority key id is another');
  if (crl.algorithm !== issuer.algorithm) problems.push('its signature algorithm is another');
  if (!speaksFor(crl, scope, url)) problems.push("its issuing distribution point is not its scope's");
  if (crl.thisUpdateSeconds * 1000 > nowMs) problems.push('its thisUpdate is in the future');
  if (scope === deltaScope) {
    if (base === undefined || crl.deltaBase !== base.crlNumber) problems.push('its base is another');
    if ((crl.crlNumber ?? 0n) < (crl.deltaBase ?? 0n)) problems.push('its number is below its base');
  } else if (crl.deltaBase !== undefined) problems.push('it is a delta CRL');
  if (crl.freshestUrls.join() !== (scope === fullScope ? deltaUrl : ''))
    problems.push('its freshest CRL is another');
  return problems;
}

/** Number and times rise. */
function successionProblems(crl: ParsedCrlHead, previous: Predecessor): string[] {
  const problems: string[] = [];
  if (crl.crlNumber === undefined || crl.crlNumber <= previous.crlNumber)
    problems.push('its number does not rise');
  if (crl.thisUpdateSeconds <= previous.thisUpdateSeconds) problems.push('its thisUpdate does not rise');
  if (crl.nextUpdateSeconds < previous.nextUpdateSeconds) problems.push('its nextUpdate falls');
  return problems;
}

/** The CRL that it is compared with: of a delta only one of the same base. */
function followed({ scope, previous, base }: Candidate): Predecessor | undefined {
  return scope === deltaScope && previous?.deltaBase !== base?.crlNumber ? undefined : previous;
}

/**
 * What the predecessor said is not taken back: entries stay as they are, change by a logged event only, and leave only
 * when they may. What came is as recorded.
 */
async function entryProblems(candidate: Candidate): Promise<string[]> {
  const judge = candidate.scope === deltaScope ? deltaEntryProblem : entryProblem;
  const problems: string[] = [];
  const slice = new Slice();
  for (const change of candidate.tbs.list.changesSince(followed(candidate)?.list ?? CrlList.empty)) {
    const problem = judge(change.serial, change, candidate);
    if (problem !== undefined) problems.push(`${change.serial} ${problem}`);
    if (slice.isOver) await slice.turn();
  }
  return problems;
}

/** Every event that a CRL covers and its predecessor did not has to be seen on it, as it stood when it was drafted. */
async function missing(found: readonly Judged[]): Promise<void> {
  const from = new Map(found.map((judged) => [judged, uncoveredFrom(judged.candidate)]));
  const [first] = found;
  if (!first) return;
  const { store, issuer, shardCount } = first.candidate;
  const slice = new Slice();
  for (let leafIndex = Math.min(...from.values()) - 1; ; ) {
    const rows = store.revocationsAfter(issuer.keyId, { leafIndex }, pageRows);
    for (const row of rows)
      for (const [judged, fromLeafIndex] of from) {
        const { candidate, problems } = judged;
        if (!isInScope(row.serial, candidate.scope, shardCount)) continue;
        const record = row.leafIndex < candidate.coversTreeSize ? row : recorded(row.serial, candidate);
        if (!record || record.leafIndex < fromLeafIndex) continue;
        const listed = candidate.tbs.list.find(record.serial);
        const problem = unseen(record, listed, candidate);
        if (problem !== undefined) problems.push(`${row.serial} ${problem}`);
        else if (listed && isStanding(record) && isAsRecorded(listed, record, candidate))
          judged.asRecorded += 1;
      }
    if (rows.length < pageRows) return;
    leafIndex = rows.at(-1)?.leafIndex ?? leafIndex;
    if (slice.isOver) await slice.turn();
  }
}

/** What a new delta has to say begins with its base, which said everything before. */
function uncoveredFrom(candidate: Candidate): number {
  const { scope, base } = candidate;
  const covered = followed(candidate)?.coversTreeSize ?? 0;
  return scope === deltaScope && base ? Math.max(covered, base.coversTreeSize) : covered;
}

/** The last event of a serial that this CRL covers; what came since is for the next one. */
function recorded(
  serial: Serial,
  { store, issuer, coversTreeSize }: Candidate,
): RevocationRecord | undefined {
  const last = store.revocation(issuer.keyId, serial);
  if (last === undefined || last.leafIndex < coversTreeSize) return last;
  return store.revocationEvents(issuer.keyId, serial).findLast((event) => event.leafIndex < coversTreeSize);
}

function isInScope(serial: Serial, scope: string, shardCount: number): boolean {
  return scope === fullScope || scope === deltaScope || scope === String(shardOf(serial, shardCount));
}

interface Change {
  before: ParsedRevoked | undefined;
  after: ParsedRevoked | undefined;
}

function entryProblem(serial: Serial, { before, after }: Change, candidate: Candidate): string | undefined {
  const { previous, nowMs, scope, shardCount } = candidate;
  const record = recorded(serial, candidate);
  if (after === undefined)
    return isReleased(record) || mayLeave(record, nowMs) ? undefined : 'would leave too early';
  if (!record || !isStanding(record) || !isInScope(serial, scope, shardCount)) return 'does not belong on it';
  if (!isAsRecorded(after, record, candidate))
    return before ? 'would have another date or reason' : 'has another date or reason than was recorded';
  // What stood on it already changes by an event since.
  return before && record.leafIndex < (previous?.coversTreeSize ?? 0)
    ? 'would have another date or reason'
    : undefined;
}

/** Base and delta together say what the full CRL would: a standing event by its entry, what ended by removeFromCRL. */
function deltaEntryProblem(serial: Serial, { after }: Change, candidate: Candidate): string | undefined {
  // A full CRL that was made since the base may say what the last delta did.
  if (after === undefined) return 'would be forgotten before the next base';
  const record = recorded(serial, candidate);
  if (after.reason === 'removeFromCRL')
    return isReleased(record) || mayLeave(record, candidate.nowMs) ? undefined : 'would leave too early';
  if (!record || !isStanding(record)) return 'does not belong on it';
  return isAsRecorded(after, record, candidate) ? undefined : 'has another date or reason than was recorded';
}

/** What is wrong where an event is not to be seen. */
function unseen(
  record: RevocationRecord,
  listed: ParsedRevoked | undefined,
  candidate: Candidate,
): string | undefined {
  const { scope, base, nowMs } = candidate;
  if (scope === deltaScope) {
    const onBase = base?.list.find(record.serial);
    if (isReleased(record) || mayLeave(record, nowMs))
      return (onBase || (listed && isReleased(record))) && listed?.reason !== 'removeFromCRL'
        ? 'is released and stays on it'
        : undefined;
    return listed ? undefined : sameAsRecorded(onBase, record, candidate);
  }
  if (isReleased(record)) return listed ? 'is released and stands on it' : undefined;
  return listed || mayLeave(record, nowMs) ? undefined : 'is missing';
}

function sameAsRecorded(
  onBase: ParsedRevoked | undefined,
  record: RevocationRecord | undefined,
  candidate: Candidate,
): string | undefined {
  return onBase && record && isAsRecorded(onBase, record, candidate) ? undefined : 'is missing';
}

function isAsRecorded(entry: ParsedRevoked, record: RevocationRecord, candidate: Candidate): boolean {
  const { dateSeconds, reason, invalidityDateSeconds } = entry;
  return (
    reason === record.reason &&
    invalidityDateSeconds === record.invalidityDateSeconds &&
    (record.crlDateSeconds === undefined
      ? wasRevokedBy(dateSeconds, record, candidate)
      : dateSeconds === record.crlDateSeconds)
  );
}

/** A date that is not fixed yet is no later than the event, or one before it: the clock may have been set back since. */
function wasRevokedBy(dateSeconds: number, record: RevocationRecord, { store, issuer }: Candidate): boolean {
  const isSo = ({ revokedAtMs }: RevocationRecord): boolean => dateSeconds <= Math.floor(revokedAtMs / 1000);
  return (
    isSo(record) ||
    store
      .revocationEvents(issuer.keyId, record.serial)
      .some((event) => event.leafIndex < record.leafIndex && isSo(event))
  );
}

function isReleased(record: RevocationRecord | undefined): boolean {
  return record !== undefined && !isStanding(record);
}

/** The store says that it stood on a scheduled CRL past its end; and past its end it is, whatever the store says. */
function mayLeave(record: RevocationRecord | undefined, nowMs: number): boolean {
  return record?.mayLeave === true && record.notAfterMs < nowMs;
}
