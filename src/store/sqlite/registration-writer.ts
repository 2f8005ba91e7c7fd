import { VouchError } from '../../core/errors.ts';
import { entriesOfParentMax, type RegistrationEntry, selectorText } from '../../core/registration.ts';
import type { SpiffeId } from '../../core/spiffe-id.ts';
import type { Mutation } from '../port.ts';
import type { Connection } from './connection.ts';
import type { ReadStatements } from './read-statements.ts';

type Kind<K extends Mutation['kind']> = Extract<Mutation, { kind: K }>;

/** Writes join tokens, registration entries and authorities. Throws VouchErrors as refusals. */
export class RegistrationWriter {
  readonly #statements: ReturnType<typeof prepareRegistration>;
  readonly #reads: ReadStatements;

  constructor(db: Connection, reads: ReadStatements) {
    this.#statements = prepareRegistration(db);
    this.#reads = reads;
  }

  /** A token with its entry; one that exists must be as the caller saw it. */
  createToken({ token, secretSha256, entry }: Kind<'token'>, leafIndex: number): undefined {
    if (token.entryId !== entry.entryId) throw new Error('a token names its entry');
    this.#requireUnsuspended(entry.spiffeId);
    const stored = this.#reads.entry.get(entry.entryId);
    if (stored === undefined) this.#insertEntry(entry, leafIndex);
    else if (stored.suspended_at_ms !== null)
      throw new VouchError(
        'denied-suspended',
        `the registration entry ${entry.entryId} is suspended: resume it first`,
      );
    else if (stored.version !== entry.version)
      throw new VouchError(
        'policy-entry-changed',
        `the registration entry ${entry.entryId} changed meanwhile: try again`,
      );
    this.#statements.insertToken.run(
      token.tokenId,
      secretSha256,
      token.entryId,
      token.usesAllowed,
      JSON.stringify(token.cidrs),
      token.expiresAtMs,
      token.createdAtMs,
      token.createdBy,
    );
  }

  revokeToken({ tokenId, atMs }: Kind<'token-revoked'>): undefined {
    if (this.#reads.tokenNumber.get(tokenId) === undefined)
      throw new VouchError('request-not-found', `no join token ${JSON.stringify(tokenId)}`);
    if (this.#statements.revokeToken.run(atMs, tokenId).changes === 0)
      throw new VouchError('policy-conflict', `join token ${tokenId} is revoked already`);
  }

  createEntry({ entry }: Kind<'entry-created'>, leafIndex: number): undefined {
    const { spiffeId, parentId } = entry;
    this.#requireUnsuspended(spiffeId);
    if (parentId !== undefined && (this.#reads.countOfParent.get(parentId) ?? 0) >= entriesOfParentMax)
      throw new VouchError(
        'policy-conflict',
        `${parentId} has ${entriesOfParentMax} registration entries, the most that a parent can have: delete some`,
      );
    this.#insertEntry(entry, leafIndex);
  }

  deleteEntry({ entryId, atMs }: Kind<'entry-deleted'>, leafIndex: number): undefined {
    this.#requireEntry(entryId);
    this.#statements.delete.run(atMs, leafIndex, entryId);
  }

  suspend({ entryId, atMs }: Kind<'entry-suspended'>, leafIndex: number): undefined {
    this.#requireEntry(entryId);
    if (this.#statements.suspend.run(atMs, leafIndex, entryId).changes === 0)
      throw new VouchError('policy-conflict', `the registration entry ${entryId} is suspended already`);
  }

  resume({ entryId }: Kind<'entry-resumed'>, leafIndex: number): undefined {
    this.#requireEntry(entryId);
    if (this.#statements.resume.run(leafIndex, entryId).changes === 0)
      throw new VouchError('policy-conflict', `the registration entry ${entryId} is not suspended`);
  }

  /** A new authority, or the new state (or certificate) of a known one; its kind and algorithm never change. */
  putAuthority({ authority }: Kind<'authority'>): undefined {
    const { keyId, kind, state, algorithm, certificateDer } = authority;
    const stored = this.#reads.authority.get(keyId);
    if (stored === undefined)
      this.#statements.insertAuthority.run(keyId, kind, state, algorithm, certificateDer);
    else if (stored.kind !== kind || stored.algorithm !== algorithm)
      throw new VouchError(
        'policy-conflict',
        `the authority ${keyId} is of kind ${stored.kind} and signs by ${stored.algorithm}`,
      );
    else this.#statements.updateAuthority.run(state, certificateDer, keyId);
  }

  #requireEntry(entryId: string): void {
    if (this.#reads.entry.get(entryId) !== undefined) return;
    if (this.#reads.entryNumber.get(entryId) !== undefined)
      throw new VouchError('policy-conflict', `the registration entry ${entryId} was deleted`);
    throw new VouchError('request-not-found', `no registration entry ${JSON.stringify(entryId)}`);
  }

  /** Asked in the transaction: a revocation by identity may have suspended it while the request waited. */
  #requireUnsuspended(spiffeId: SpiffeId): void {
    if (this.#statements.suspendedOf.get(spiffeId) !== undefined)
      throw new VouchError('denied-suspended', `${spiffeId} is suspended: resume it first`);
  }

  #insertEntry(entry: RegistrationEntry, leafIndex: number): void {
    const selectors = new Set(entry.selectors.map(selectorText));
    const { lastInsertRowid } = this.#statements.insertEntry.run(
      entry.entryId,
      entry.spiffeId,
      entry.parentId ?? null,
      JSON.stringify(entry.selectors),
      selectors.size,
      JSON.stringify(entry.dnsNames),
      JSON.stringify(entry.ipAddresses),
      JSON.stringify(entry.allowedClients),
      entry.hint,
      entry.profile,
      entry.lifetimeSeconds ?? null,
      entry.version,
      entry.suspendedAtMs ?? null,
      entry.createdAtMs,
      leafIndex,
    );
    for (const selector of selectors) this.#statements.insertSelector.run(selector, lastInsertRowid);
  }
}

function prepareRegistration(db: Connection) {
  return {
    insertEntry: db.prepare<unknown[]>(
      `INSERT INTO entries (entry_id, spiffe_id, parent_id, selectors, selector_count, dns_names, ip_addresses, allowed_clients, hint, profile,
         lifetime_seconds, version, suspended_at_ms, created_at_ms, changed_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    insertSelector: db.prepare<[string, number | bigint]>(
      'INSERT INTO entry_selectors (selector, entry_number) VALUES (?, ?)',
    ),
    // Each change raises the version, so that what was decided by the entry as it was is decided again.
    suspend: db.prepare<[number, number, string]>(
      'UPDATE entries SET suspended_at_ms = ?, changed_by = ?, version = version + 1 WHERE entry_id = ? AND suspended_at_ms IS NULL',
    ),
    delete: db.prepare<[number, number, string]>(
      'UPDATE entries SET deleted_at_ms = ?, changed_by = ?, version = version + 1 WHERE entry_id = ?',
    ),
    resume: db.prepare<[number, string]>(
      'UPDATE entries SET suspended_at_ms = NULL, changed_by = ?, version = version + 1 WHERE entry_id = ? AND suspended_at_ms IS NOT NULL',
    ),
    suspendedOf: db.prepare<[string]>(
      `SELECT 1 FROM entries INDEXED BY entries_suspended
       WHERE spiffe_id = ? AND suspended_at_ms IS NOT NULL AND deleted_at_ms IS NULL LIMIT 1`,
    ),
    insertToken: db.prepare<unknown[]>(
      `INSERT INTO join_tokens (token_id, secret_sha256, entry_number, uses_allowed, uses_taken, cidrs, expires_at_ms, created_at_ms, created_by)
       VALUES (?, ?, (SELECT entry_number FROM entries WHERE entry_id = ?), ?, 0, ?, ?, ?, ?)`,
    ),
    revokeToken: db.prepare<[number, string]>(
      'UPDATE join_tokens SET revoked_at_ms = ? WHERE token_id = ? AND revoked_at_ms IS NULL',
    ),
    insertAuthority: db.prepare<[string, string, string, string, Buffer]>(
      'INSERT INTO authorities (key_id, kind, state, algorithm, certificate_der) VALUES (?, ?, ?, ?, ?)',
    ),
    updateAuthority: db.prepare<[string, Buffer, string]>(
      'UPDATE authorities SET state = ?, certificate_der = ? WHERE key_id = ?',
    ),
  };
}
