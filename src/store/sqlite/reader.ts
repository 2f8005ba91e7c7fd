import { VouchError } from '../../core/errors.ts';
import type { RegistrationEntry } from '../../core/registration.ts';
import type { Serial } from '../../core/serial.ts';
import type { SpiffeId } from '../../core/spiffe-id.ts';
import type {
  ClockMark,
  AuthorityRecord,
  CertificateRecord,
  CertificateStanding,
  CrlRecord,
  JoinTokenRecord,
  Page,
  RevocationRecord,
  StateIdentity,
  StoreReader,
} from '../port.ts';
import type { StateRows } from '../rows-port.ts';
import { storeFailure } from './failure.ts';
import type { ReadStatements } from './read-statements.ts';
import {
  authorityOf,
  certificateOf,
  crlOf,
  entryOf,
  identityOf,
  revocationOf,
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

  constructor(reads: ReadStatements) {
    this.reads = reads;
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

  entries(page: Page & { spiffeId?: SpiffeId }): RegistrationEntry[] {
    const before = page.after === undefined ? newest : known(first(this.reads.entryNumber, page.after));
    const limit = rowsOf(page);
    const rows =
      page.spiffeId === undefined
        ? all(this.reads.entries, before, limit)
        : all(this.reads.entriesOfSpiffeId, page.spiffeId, before, limit);
    return rows.map(entryOf);
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
    by: { lineage: Serial } | { spiffeId: SpiffeId } | { tokenId: string } | { entryId: string },
    nowMs: number,
  ): CertificateStanding[] {
    if ('lineage' in by)
      return all(this.reads.unexpiredOfLineage, nowMs, by.lineage, by.lineage).map(standingOf);
    if ('spiffeId' in by) return all(this.reads.unexpiredOfSpiffeId, nowMs, by.spiffeId).map(standingOf);
    if ('tokenId' in by)
      return all(this.reads.unexpiredOfToken, nowMs, { tokenId: by.tokenId }).map(standingOf);
    return all(this.reads.unexpiredOfEntry, nowMs, by.entryId).map(standingOf);
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

  revocations(issuerKeyId: string, fromLeafIndex = 0): RevocationRecord[] {
    const rows =
      fromLeafIndex === 0
        ? all(this.reads.revocations, issuerKeyId)
        : all(this.reads.revocationsFrom, fromLeafIndex, issuerKeyId);
    return rows.map(revocationOf);
  }

  revocation(issuerKeyId: string, serial: Serial): RevocationRecord | undefined {
    return mapped(first(this.reads.revocation, serial, issuerKeyId), revocationOf);
  }

  statement(): string | undefined {
    return first(this.reads.statement);
  }

  crossChain(): string | undefined {
    return first(this.reads.crossChain);
  }

  lastCrls(issuerKeyId: string): CrlRecord[] {
    return all(this.reads.lastCrls, issuerKeyId).map(crlOf);
  }

  scheduledUpdates(issuerKeyId: string): ReadonlyMap<string, number> {
    const rows = all(this.reads.scheduledUpdates, issuerKeyId);
    return new Map(rows.map((row) => [row.scope, row.scheduled_this_update_seconds]));
  }

  crls(): CrlRecord[] {
    return all(this.reads.crls).map(crlOf);
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

function rowsOf(page: Page): number {
  if (!Number.isSafeInteger(page.limit) || page.limit < 1)
    throw new VouchError('request-malformed', 'limit must be a positive integer');
  return page.limit;
}

function known(number: number | undefined): number {
  if (number === undefined)
    throw new VouchError('request-malformed', 'no such page: take `next` of the page before as it was given');
  return number;
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
