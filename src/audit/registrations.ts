import { type Selector, selectorText } from '../core/registration.ts';
import type { StateRows, StoredEntry, StoredToken, StoredTokenUse } from '../store/rows-port.ts';
import type { Leaf } from '../log/leaf.ts';
import { bodyOf, type JsonBody, textOf } from './json-body.ts';
import { Changed } from './changed.ts';
import { NamedRows, RowWalk } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 256;

/** What of a token changes after it was made. */
interface TokenState {
  revokedAtMs: number | null;
}

/** What of an entry changes after it was made. */
interface EntryState {
  version: number;
  suspendedAtMs: number | null;
  deletedAtMs: number | null;
  /** Index of its last leaf; null of one that is as it was made, or that did not change since the store keeps this. */
  changedBy: number | null;
}

const tokenAtFirst: TokenState = { revokedAtMs: null };
const entryAtFirst: EntryState = { version: 1, suspendedAtMs: null, deletedAtMs: null, changedBy: null };

/**
 * Replays the leaves of join tokens and registration entries and holds every row against what comes out. Rows stand in
 * the order of their leaves, so memory holds only what was revoked, suspended or resumed.
 */
export class RegistrationCheck {
  readonly #rows: StateRows;
  readonly #problems: Problems;
  readonly #tokens: NamedRows<StoredToken>;
  readonly #entries: NamedRows<StoredEntry>;
  readonly #tokenStates = new Changed(tokenAtFirst);
  readonly #entryStates = new Changed(entryAtFirst);

  constructor(rows: StateRows, problems: Problems) {
    this.#rows = rows;
    this.#problems = problems;
    this.#tokens = new NamedRows({
      read: (after) => rows.tokens(after, pageRows),
      find: (tokenId) => rows.tokenNumber(tokenId),
      keysOf: ({ tokenId, tokenNumber }) => [tokenId, tokenNumber],
      orphan: ({ tokenId }) => problems.add(`token ${tokenId} is not in the log`),
    });
    this.#entries = new NamedRows({
      read: (after) => rows.entries(after, pageRows),
      find: (entryId) => rows.entryNumber(entryId),
      keysOf: ({ entryId, entryNumber }) => [entryId, entryNumber],
      orphan: ({ entryId }) => problems.add(`entry ${entryId} is not in the log`),
    });
  }

  leaf(leaf: Leaf, index: number): void {
    if (leaf.type !== 'token' && leaf.type !== 'entry') return;
    const body = bodyOf(leaf);
    const [tokenId, entryId] = [textOf(body.tokenId), textOf(body.entryId)];
    if (leaf.type === 'token' && body.event === 'created') {
      this.#entry(entryId, body, leaf.timeMs, index);
      this.#token(tokenId, body, leaf.timeMs);
    }
    if (leaf.type === 'token' && body.event === 'revoked')
      this.#tokenStates.change(tokenId, () => ({ revokedAtMs: leaf.timeMs }));
    if (leaf.type === 'entry' && body.event === 'created') this.#entry(entryId, body, leaf.timeMs, index);
    const change = changeOf(body.event, leaf.timeMs);
    if (change)
      this.#entryStates.change(entryId, (state) => ({
        ...{ ...state, ...change },
        ...{ version: state.version + 1, changedBy: index },
      }));
  }

  finish(): void {
    this.#tokens.finish();
    this.#entries.finish();
    for (const { id, stored, logged } of this.#tokenStates.both())
      this.#problems.compare(`token ${id}`, stored, { ...logged });
    for (const { id, stored, logged } of this.#entryStates.both()) {
      const changedBy = stored.changedBy === null ? null : logged.changedBy;
      this.#problems.compare(`entry ${id}`, stored, { ...logged, changedBy });
    }
    this.#uses();
  }

  /** That each certificate's use is recorded, its own check says; here that each recorded use is a certificate's. */
  #uses(): void {
    const start = { tokenNumber: Number.MIN_SAFE_INTEGER, spkiSha256: '' };
    const uses = new RowWalk<StoredTokenUse>((last) => this.#rows.tokenUses(last ?? start, pageRows));
    for (const { certificateFits, tokenId, spkiSha256, leafIndex } of uses.rest())
      if (certificateFits === 0)
        this.#problems.add(
          `token ${tokenId ?? 'that is unknown'}: the use by key ${spkiSha256} is of no certificate, leaf ${leafIndex} has none with them`,
        );
  }

  #token(tokenId: string, body: JsonBody, createdAtMs: number): void {
    const what = `token ${tokenId}`;
    const row = this.#tokens.named(tokenId);
    if (!row) return this.#problems.add(`${what} is in the log and the store does not have it`);
    const { entryId, uses: usesAllowed, cidrs, expiresAtMs, operator: createdBy, secretSha256 } = body;
    this.#problems.compare(what, row, {
      ...{ tokenId, entryId, usesAllowed, cidrs: JSON.stringify(cidrs), expiresAtMs, createdAtMs, createdBy },
      ...{ secretSha256, usesTaken: row.usesRecorded },
    });
    this.#tokenStates.stored(tokenId, { revokedAtMs: row.revokedAtMs });
  }

  #entry(entryId: string, body: JsonBody, createdAtMs: number, leafIndex: number): void {
    const what = `entry ${entryId}`;
    const row = this.#entries.named(entryId);
    if (!row) return this.#problems.add(`${what} is in the log and the store does not have it`);
    // Those of join tokens have neither parent nor hint.
    const { spiffeId, parentId = null, hint = '', profile, lifetimeSeconds = null } = body;
    const found = selectorTexts(body.selectors);
    this.#problems.compare(what, row, {
      ...{
        entryId,
        spiffeId,
        parentId,
        hint,
        profile,
        lifetimeSeconds,
        createdAtMs,
        selectors: JSON.stringify(body.selectors),
      },
      ...{ selectorCount: found.length, foundBy: JSON.stringify(found) },
      dnsNames: JSON.stringify(body.dnsNames),
      ipAddresses: JSON.stringify(body.ipAddresses),
      allowedClients: JSON.stringify(body.allowedClients),
    });
    const { version, suspendedAtMs, deletedAtMs } = row;
    const changedBy = version === 1 && row.changedBy === leafIndex ? null : row.changedBy;
    this.#entryStates.stored(entryId, { version, suspendedAtMs, deletedAtMs, changedBy });
  }
}

function changeOf(event: JsonBody[string], timeMs: number): Partial<EntryState> | undefined {
  if (event === 'suspended') return { suspendedAtMs: timeMs };
  if (event === 'resumed') return { suspendedAtMs: null };
  return event === 'deleted' ? { deletedAtMs: timeMs } : undefined;
}

function selectorTexts(selectors: JsonBody[string]): string[] {
  if (!Array.isArray(selectors)) return [];
  const texts = (selectors as Selector[]).map(selectorText);
  // As the database sorts text: by its bytes in UTF-8.
  return [...new Set(texts)].toSorted((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
}
