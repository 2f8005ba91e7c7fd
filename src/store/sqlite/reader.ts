import { VouchError } from '../../core/errors.ts';
import type { RegistrationEntry } from '../../core/registration.ts';
import type { Serial } from '../../core/serial.ts';
import type { SpiffeId } from '../../core/spiffe-id.ts';
import type { ClockMark, CommonOrigin, Page, StoreReader } from '../port.ts';
import type {
  AuthorityRecord,
  CertificateRecord,
  CertificateStanding,
  CrlRecord,
  JoinTokenRecord,
  JwtKeyRecord,
  MassRevocationRecord,
  RevocationRecord,
  StateIdentity,
} from '../records.ts';
import type { StateRows } from '../rows-port.ts';
import { PieceIds, readList } from './crl-pieces.ts';
import { storeFailure } from './failure.ts';
import type { ReadStatements } from './read-statements.ts';
import {
  authorityOf,
  type CrlRow,
  certificateOf,
  crlOf,
  entryOf,
  identityOf,
  massRevocationOf,
  revocationOf,
  type StandingRow,
  standingOf,
  tokenOf,
} from './rows.ts';
import { stateRows } from './state-rows.ts';
import { certificateOfUse } from './token-use.ts';

/** Newer than every row: where a list starts without a cursor. */
const newest = Number.MAX_SAFE_INTEGER;

/** The port's reads on one connection. Each throws `unavailable-store` or `integrity-state` where SQLite fails. */
export class SqliteReader implements StoreReader {
  protected readonly reads: ReadStatements;
  protected readonly pieceIds: PieceIds;

  constructor(reads: ReadStatements) {
    this.reads = reads;
    this.pieceIds = new PieceIds(first(reads.lastPiece) ?? 0);
  }

  identity(): StateIdentity {
    const row = first(this.reads.identity);
    if (row === undefined)
      throw new VouchError('integrity-state', 'the database has lost its identity: restore a backup');
    return identityOf(row);
  }

  authorities(): AuthorityRecord[] {
    return all(this.reads.authorities).map(authorityOf);
  }

  entry(entryId: string): RegistrationEntry | undefined {
    return mapped(first(this.reads.entry, entryId), entryOf);
  }

  entriesMatching(selectors: readonly string[]): RegistrationEntry[] {
    return all(this.reads.entriesMatching, JSON.stringify(selectors)).map(entryOf);
  }

  entries(page: Page & { spiffeId?: SpiffeId; parentId?: SpiffeId }): RegistrationEntry[] {
    const before = page.after === undefined ? newest : known(first(this.reads.entryNumber, page.after));
    const limit = rowsOf(page);
    const { spiffeId, parentId } = page;
    if (parentId !== undefined)
      return all(this.reads.entriesOfParent, { parentId, spiffeId: spiffeId ?? null, before, limit }).map(
        entryOf,
      );
    if (spiffeId !== undefined)
      return all(this.reads.entriesOfSpiffeId, spiffeId, before, limit).map(entryOf);
    return all(this.reads.entries, before, limit).map(entryOf);
  }

  entryCountOf(parentId: SpiffeId): number {
    return first(this.reads.countOfParent, parentId) ?? 0;
  }

  entriesChangedBy(parentId: SpiffeId): number | undefined {
    return first(this.reads.entriesChangedBy, parentId) ?? undefined;
  }

  isEntryOnRecord(entryId: string): boolean {
    return first(this.reads.entryNumber, entryId) !== undefined;
  }

  tokenBySecret(secretSha256: Buffer): JoinTokenRecord | undefined {
    return mapped(first(this.reads.tokenBySecret, secretSha256), tokenOf);
  }

  token(tokenId: string): JoinTokenRecord | undefined {
    return mapped(first(this.reads.token, tokenId), tokenOf);
  }

  tokens(page: Page): JoinTokenRecord[] {
    const before = page.after === undefined ? newest : known(first(this.reads.tokenNumber, page.after));
    return all(this.reads.tokens, before, rowsOf(page)).map(tokenOf);
  }

  liveTokensOf(operator: string, nowMs: number, limit: number): JoinTokenRecord[] {
    return all(this.reads.liveTokensOf, operator, nowMs, rowsOf({ limit })).map(tokenOf);
  }

  certificate(issuerKeyId: string, serial: Serial): CertificateStanding | undefined {
    return mapped(first(this.reads.certificate, serial, issuerKeyId), standingOf);
  }

  certificatesBySerial(serial: Serial): CertificateStanding[] {
    return all(this.reads.certificatesBySerial, serial).map(standingOf);
  }

  certificates(page: Page & { spiffeId?: SpiffeId; tokenId?: string }): CertificateStanding[] {
    const before = page.after === undefined ? newest : leafIndexOf(page.after);
    const limit = rowsOf(page);
    const { spiffeId, tokenId } = page;
    if (tokenId !== undefined)
      return all(this.reads.certificatesOfToken, { tokenId, spiffeId: spiffeId ?? null, before, limit }).map(
        standingOf,
      );
    if (spiffeId !== undefined)
      return all(this.reads.certificatesOfSpiffeId, spiffeId, before, limit).map(standingOf);
    return all(this.reads.certificates, before, limit).map(standingOf);
  }

  unexpiredCertificates(
    by: CommonOrigin,
    nowMs: number,
    { after, limit }: { after?: number | undefined; limit: number } = { limit: newest },
  ): CertificateStanding[] {
    return this.#unexpired(by, nowMs, after, rowsOf({ limit })).map(standingOf);
  }

  #unexpired(by: CommonOrigin, nowMs: number, after: number | undefined, limit: number): StandingRow[] {
    const seen = after === undefined ? undefined : known(first(this.reads.certificateTimes, after));
    const leafIndex = after ?? newest;
    if ('issuedBetween' in by) {
      const { fromMs, toMs } = by.issuedBetween;
      const from = {
        issuedMs: seen?.issued_at_ms ?? toMs,
        ms: seen?.not_after_ms ?? newest,
        leafIndex,
      };
      return all(this.reads.unexpiredIssuedBetween, { ...from, fromMs, nowMs, limit });
    }
    const page = { ms: seen?.not_after_ms ?? newest, leafIndex, nowMs, limit };
    if ('lineage' in by) return all(this.reads.unexpiredOfLineage, { ...page, ...by });
    if ('spiffeId' in by) return all(this.reads.unexpiredOfSpiffeId, { ...page, ...by });
    if ('tokenId' in by) return all(this.reads.unexpiredOfToken, { ...page, ...by });
    if ('entryId' in by) return all(this.reads.unexpiredOfEntry, { ...page, ...by });
    if ('operator' in by) return all(this.reads.unexpiredOfOperator, { ...page, ...by });
    if ('agentId' in by) return all(this.reads.unexpiredOfAgent, { ...page, ...by });
    if ('node' in by) return all(this.reads.unexpiredOfNode, { ...page, ...by });
    return all(this.reads.unexpiredOfKey, { ...page, ...by });
  }

  issuedBy(
    issuerKeyId: string,
    { from, to }: { from: number; to: number },
    nowMs: number,
  ): { lastNotAfterMs: number; unexpired: number } {
    const row = first(this.reads.issuedBy, nowMs, issuerKeyId, from, to);
    return { lastNotAfterMs: row?.last_not_after_ms ?? 0, unexpired: row?.unexpired ?? 0 };
  }

  certificateOfTokenUse(tokenId: string, spkiSha256: string): CertificateRecord | undefined {
    try {
      return mapped(certificateOfUse(this.reads, tokenId, spkiSha256), certificateOf);
    } catch (error) {
      throw storeFailure(error);
    }
  }

  treeSize(): number {
    return first(this.reads.treeSize) ?? 0;
  }

  leafHashes(from: number, to: number): Buffer[] {
    return complete(all(this.reads.leafHashes, from, to), from, to);
  }

  leaves(from: number, to: number): Buffer[] {
    return complete(all(this.reads.leaves, from, to), from, to);
  }

  checkpointNote(): string | undefined {
    return first(this.reads.checkpointNote) ?? undefined;
  }

  standingBySerial(issuerKeyId: string, afterSerial: string, limit: number): RevocationRecord[] {
    return all(this.reads.standingBySerial, issuerKeyId, afterSerial, rowsOf({ limit })).map(revocationOf);
  }

  expiredStanding(issuerKeyId: string, beforeMs: number, limit: number): RevocationRecord[] {
    return all(this.reads.expiredStanding, issuerKeyId, beforeMs, rowsOf({ limit })).map(revocationOf);
  }

  revocationsAfter(
    issuerKeyId: string,
    { leafIndex }: { leafIndex: number },
    limit: number,
  ): RevocationRecord[] {
    return all(this.reads.revocationsAfter, leafIndex, issuerKeyId, rowsOf({ limit })).map(revocationOf);
  }

  revocation(issuerKeyId: string, serial: Serial): RevocationRecord | undefined {
    return mapped(first(this.reads.revocation, serial, issuerKeyId), revocationOf);
  }

  revocationEvents(issuerKeyId: string, serial: Serial): RevocationRecord[] {
    const earlier = all(this.reads.earlierRevocations, serial, issuerKeyId);
    return [...earlier, ...all(this.reads.revocation, serial, issuerKeyId)].map(revocationOf);
  }

  massRevocation(leafIndex: number): MassRevocationRecord | undefined {
    return mapped(first(this.reads.massRevocation, leafIndex), massRevocationOf);
  }

  unfinishedMassRevocations(): MassRevocationRecord[] {
    return all(this.reads.unfinishedMassRevocations).map(massRevocationOf);
  }

  statement(): string | undefined {
    return first(this.reads.statement);
  }

  crossChain(): string | undefined {
    return first(this.reads.crossChain);
  }

  jwtKeys(): JwtKeyRecord[] {
    return all(this.reads.jwtKeys);
  }

  lastCrls(issuerKeyId: string): CrlRecord[] {
    return all(this.reads.lastCrls, issuerKeyId).map((row) => this.#crlOf(row));
  }

  baseCrl(issuerKeyId: string): CrlRecord | undefined {
    return mapped(first(this.reads.baseCrl, issuerKeyId), (row) => this.#crlOf(row));
  }

  scheduledUpdates(issuerKeyId: string): ReadonlyMap<string, number> {
    const rows = all(this.reads.scheduledUpdates, issuerKeyId);
    return new Map(rows.map((row) => [row.scope, row.scheduled_this_update_seconds]));
  }

  crls(issuerKeyId?: string): CrlRecord[] {
    const rows = issuerKeyId === undefined ? all(this.reads.crls) : all(this.reads.crlsOf, issuerKeyId);
    return rows.map((row) => this.#crlOf(row));
  }

  #crlOf(row: CrlRow): CrlRecord {
    try {
      return crlOf(row, readList(row.pieces, this.reads, this.pieceIds));
    } catch (error) {
      throw storeFailure(error);
    }
  }

  lastCrlNumber(issuerKeyId: string): bigint {
    return BigInt(first(this.reads.lastCrlNumber, issuerKeyId) ?? 0);
  }

  rewindEvidence(): string | undefined {
    return first(this.reads.rewindEvidence) ?? undefined;
  }

  clockMark(): ClockMark {
    return first(this.reads.clockMark) ?? { wallMs: 0, monotonicMs: 0, bootId: '' };
  }

  certificatesByLeaf(fromLeafIndex: number, limit: number): CertificateRecord[] {
    return all(this.reads.certificatesByLeaf, fromLeafIndex, limit).map(certificateOf);
  }

  rows(): StateRows {
    return stateRows(this.reads.rows, this.reads);
  }
}

/** A statement as far as reading goes. */
interface Query<P extends unknown[], R> {
  get(...parameters: P): R | undefined;
  all(...parameters: P): R[];
}

function first<P extends unknown[], R>(query: Query<P, R>, ...parameters: P): R | undefined {
  try {
    return query.get(...parameters);
  } catch (error) {
    throw storeFailure(error);
  }
}

function all<P extends unknown[], R>(query: Query<P, R>, ...parameters: P): R[] {
  try {
    return query.all(...parameters);
  } catch (error) {
    throw storeFailure(error);
  }
}

function mapped<R, T>(row: R | undefined, map: (row: R) => T): T | undefined {
  return row === undefined ? undefined : map(row);
}

function rowsOf(page: Pick<Page, 'limit'>): number {
  if (!Number.isSafeInteger(page.limit) || page.limit < 1)
    throw new VouchError('request-malformed', 'limit must be a positive integer');
  return page.limit;
}

function known<T>(found: T | undefined): T {
  if (found === undefined)
    throw new VouchError('request-malformed', 'no such page: take `next` of the page before as it was given');
  return found;
}

function leafIndexOf(cursor: string): number {
  return known(/^(?:0|[1-9]\d{0,14})$/.test(cursor) ? Number(cursor) : undefined);
}

/** A log without one of its leaves is no log. */
function complete(rows: Buffer[], from: number, to: number): Buffer[] {
  if (rows.length !== Math.max(0, to - from))
    throw new VouchError('integrity-log', `the database holds ${rows.length} of the leaves [${from}, ${to})`);
  return rows;
}
