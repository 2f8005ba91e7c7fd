import { systemClock } from '../core/clock.ts';
import { mayFollow } from '../core/reasons.ts';
import type { RegistrationEntry } from '../core/registration.ts';
import type { Issuer } from '../issuance/issuer.ts';
import { recordLeaf } from '../sequencer/record.ts';
import { allStanding } from '../store/pages.ts';
import type { Mutation, Page, StoreReader } from '../store/port.ts';
import type { JoinTokenRecord } from '../store/records.ts';
import { revocationTakenOver } from './import.ts';

/** Who ended it, where a restore did: nobody at this moment. */
const operator = 'restore';
const pageSize = 500;

/**
 * What ends in `store`, which was put back from an earlier time, what has ended in `present` since: certificates revoked,
 * put on hold or revoked for a worse reason (what was released since stays on hold), join tokens that were revoked or used, entries that were suspended or deleted. A rewind must bring none of them back to life.
 */
export function endedSince(present: StoreReader, issuers: readonly Issuer[], store: StoreReader): Mutation[] {
  const revocations = issuers.flatMap((issuer) =>
    [...allStanding(present, issuer.keyId)].flatMap((record): Mutation[] => {
      if (!mayFollow(store.revocation(issuer.keyId, record.serial)?.reason, record.reason)) return [];
      const spkiSha256 = present.certificate(issuer.keyId, record.serial)?.spkiSha256;
      return [revocationTakenOver(store, issuer, record, spkiSha256)];
    }),
  );
  const tokens = all((page) => store.tokens(page), 'tokenId')
    .filter((token) => hasEndedSince(token, present.token(token.tokenId)))
    .map(tokenEnding);
  const entries = all((page) => store.entries(page), 'entryId').flatMap((entry) =>
    entryEnding(entry, present),
  );
  return [...revocations, ...tokens, ...entries];
}

/** Deleted or suspended in `present`, and not here. */
function entryEnding(then: RegistrationEntry, present: StoreReader): Mutation[] {
  const { entryId, parentId } = then;
  const now = present.entry(entryId);
  const atMs = systemClock.now();
  const leaf = (event: string) => recordLeaf('entry', atMs, { event, entryId, operator });
  if (now === undefined)
    return present.isEntryOnRecord(entryId)
      ? [{ kind: 'entry-deleted', entryId, parentId, atMs, leaf: leaf('deleted') }]
      : [];
  return then.suspendedAtMs === undefined && now.suspendedAtMs !== undefined
    ? [{ kind: 'entry-suspended', entryId, atMs, leaf: leaf('suspended') }]
    : [];
}

/** Where nothing tells what became of them since: what ends every join token of the backup that still counts. */
export function joinTokensEnded(store: StoreReader): Mutation[] {
  const nowMs = systemClock.now();
  return all((page) => store.tokens(page), 'tokenId')
    .filter(({ revokedAtMs, expiresAtMs }) => revokedAtMs === undefined && nowMs <= expiresAtMs)
    .map(tokenEnding);
}

/** Also one that has uses left: which of them were taken, and by which keys, the state put back does not know. */
function hasEndedSince(then: JoinTokenRecord, now: JoinTokenRecord | undefined): boolean {
  if (then.revokedAtMs !== undefined || now === undefined) return false;
  return now.revokedAtMs !== undefined || now.usesTaken > then.usesTaken;
}

function tokenEnding({ tokenId }: JoinTokenRecord): Mutation {
  const atMs = systemClock.now();
  const leaf = recordLeaf('token', atMs, { event: 'revoked', tokenId, operator });
  return { kind: 'token-revoked', tokenId, atMs, leaf };
}

function all<Key extends string, Row extends Record<Key, string>>(
  read: (page: Page) => Row[],
  key: Key,
): Row[] {
  const rows: Row[] = [];
  for (;;) {
    const last = rows.at(-1);
    const page = read({ limit: pageSize, ...(last && { after: last[key] }) });
    rows.push(...page);
    if (page.length < pageSize) return rows;
  }
}
