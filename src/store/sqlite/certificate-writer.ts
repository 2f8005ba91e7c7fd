import { assert, VouchError } from '../../core/errors.ts';
import type { Serial } from '../../core/serial.ts';
import { takeOverOperator } from '../../core/take-over.ts';
import type { Mutation } from '../port.ts';
import type { CertificateRecord } from '../records.ts';
import type { Connection } from './connection.ts';
import { isDuplicate } from './failure.ts';
import type { ReadStatements } from './read-statements.ts';
import type { StandingRow } from './rows.ts';
import { certificateOf } from './rows.ts';
import { certificateOfUse } from './token-use.ts';
import type { Written } from './written.ts';

type CertificateMutation = Extract<Mutation, { kind: 'certificate' }>;
type TokenUse = NonNullable<CertificateMutation['tokenUse']>;

interface EntryState {
  entry_number: number;
  version: number;
  suspended_at_ms: number | null;
  parent_id: string | null;
}

interface Predecessor {
  lineage: Serial;
  revoked: number;
  entry_number: number | null;
  agent: string | null;
}

interface TokenState {
  token_number: number;
  entry_number: number;
  created_by: string;
  expires_at_ms: number;
  revoked_at_ms: number | null;
}

/**
 * Reserves serials: checks again, inside the transaction, all that may have changed since the request was prepared, and
 * writes TBS, serial and the token's use together (I2, I6). Cheap looks first, each a look-up by key.
 */
export class CertificateWriter {
  readonly #statements: ReturnType<typeof prepareIssue>;
  readonly #reads: ReadStatements;

  constructor(db: Connection, reads: ReadStatements) {
    this.#statements = prepareIssue(db);
    this.#reads = reads;
  }

  /** Throws the refusals of the port's `certificate` mutation. */
  issue(mutation: CertificateMutation, leafIndex: number): Written {
    const { certificate, tokenUse } = mutation;
    this.#requireIssuing(certificate.issuerKeyId);
    this.#requireUnblockedKey(certificate.spkiSha256);
    const entry = this.#entryOf(mutation);
    this.#requireAgent(mutation, entry);
    const token = this.#tokenOf(certificate, entry);
    if (tokenUse !== undefined) {
      const stored = this.#useOfSameKey(certificate, token, tokenUse);
      if (stored !== undefined && stored.certificate.serial !== certificate.predecessor) return stored;
      if (stored === undefined && certificate.predecessor !== undefined)
        throw new VouchError('policy-conflict', 'the certificate to take over from has no such use');
    }
    if (entry?.version !== mutation.entryVersion)
      throw new VouchError('policy-entry-changed', 'the registration entry changed meanwhile: try again');
    if (tokenUse === undefined) this.#requirePredecessor(certificate, entry);
    else this.#requireEnded(certificate);
    this.#insert(certificate, leafIndex, entry, token);
    if (token !== undefined && tokenUse !== undefined && certificate.predecessor === undefined)
      this.#burn(token, certificate.spkiSha256, leafIndex);
    return undefined;
  }

  /** Asked in the transaction: it may have been revoked or replaced while this one waited. */
  #requireIssuing(issuerKeyId: string): void {
    const { state } = this.#reads.authority.get(issuerKeyId) ?? {};
    if (state === undefined || state === 'active') return;
    throw new VouchError(
      'unavailable-issuer',
      `the issuer ${issuerKeyId} is ${state} and issues no more: try again`,
    );
  }

  #requireUnblockedKey(spkiSha256: string): void {
    if (this.#reads.blockedKey.get(spkiSha256) !== undefined)
      throw new VouchError(
        'policy-key-blocked',
        'a certificate with this key was revoked, and its key is blocked: make a new key',
      );
  }

  /** The entry as it is now; undefined for the server's own certificate, which has none. */
  #entryOf({ certificate, entryVersion }: CertificateMutation): EntryState | undefined {
    assert(
      (certificate.entryId === undefined) === (entryVersion === undefined),
      'an entry comes with its version',
    );
    if (certificate.entryId === undefined) return undefined;
    const entry = this.#statements.entryState.get(certificate.entryId);
    if (entry === undefined)
      throw new VouchError('policy-entry-changed', 'the registration entry was deleted: ask the operator');
    if (__VOUCH_WITHOUT__ !== 'I7' && entry.suspended_at_ms !== null)
      throw new VouchError(
        'denied-suspended',
        'the registration entry is suspended until an operator resumes it',
      );
    return entry;
  }

  /** What names an agent as its parent is for that agent only, and nothing else is; asked while it may ask at all. */
  #requireAgent({ certificate, askedBy }: CertificateMutation, entry: EntryState | undefined): void {
    const parent = askedBy && certificate.agent;
    if ((entry?.parent_id ?? undefined) !== parent)
      throw new VouchError('denied-no-entry', 'no registration entry of this agent has this id');
    if (askedBy === undefined) return;
    const agent = this.#reads.certificate.get(askedBy.serial, askedBy.issuerKeyId);
    if (
      agent === undefined ||
      agent.spiffe_id !== parent ||
      certificate.issuedAtMs > agent.not_after_ms + 999
    )
      throw new VouchError('denied-certificate', "the agent's certificate counts no more: enroll again");
    if (agent.revoked_at_ms !== null)
      throw new VouchError('denied-revoked', "the agent's certificate is revoked: ask the operator");
    if (agent.entry_suspended === 1)
      throw new VouchError('denied-suspended', 'the agent is suspended until an operator resumes it');
  }

  #tokenOf(
    { tokenId }: CertificateMutation['certificate'],
    entry: EntryState | undefined,
  ): TokenState | undefined {
    if (tokenId === undefined) return undefined;
    const token = this.#statements.tokenState.get(tokenId);
    if (token === undefined)
      throw new VouchError('denied-evidence', 'no such join token: ask the operator for a new one');
    assert(token.entry_number === entry?.entry_number, 'a token yields its own entry');
    return token;
  }

  /**
   * The certificate that this token and key got before (I6), if the token may be used at all now. Undefined: a first
   * use by this key.
   */
  #useOfSameKey(
    certificate: CertificateMutation['certificate'],
    token: TokenState | undefined,
    use: TokenUse,
  ): { status: 'exists'; certificate: CertificateRecord; isEnded?: boolean } | undefined {
    assert(token !== undefined && use.tokenId === certificate.tokenId, "the token used is the certificate's");
    if (token.revoked_at_ms !== null)
      throw new VouchError(
        'denied-token-revoked',
        'this join token was revoked: ask the operator for a new one',
      );
    if (use.atMs >= token.expires_at_ms)
      throw new VouchError(
        'denied-token-expired',
        'this join token has expired: ask the operator for a new one',
      );
    const stored = certificateOfUse(this.#reads, use.tokenId, certificate.spkiSha256);
    if (stored === undefined) return undefined;
    const isEnded = this.#isEndedUnsigned(stored);
    requireFresh(isEnded ? { ...stored, revoked_at_ms: null } : stored, use.atMs);
    return { status: 'exists', certificate: certificateOf(stored), ...(isEnded ? { isEnded } : {}) };
  }

  /** By this program and for this: what an operator revoked has no successor. */
  #isEndedUnsigned({ serial, issuer_key_id: issuerKeyId }: StandingRow): boolean {
    return this.#reads.revocation.get(serial, issuerKeyId)?.operator === takeOverOperator;
  }

  /** I6: the use passes on only where what it got cannot count any more. */
  #requireEnded({ predecessor, tokenId, spkiSha256 }: CertificateMutation['certificate']): void {
    if (predecessor === undefined) return;
    const stored = certificateOfUse(this.#reads, tokenId ?? '', spkiSha256);
    if (__VOUCH_WITHOUT__ !== 'I6' && (stored?.serial !== predecessor || !this.#isEndedUnsigned(stored)))
      throw new VouchError('policy-conflict', 'the certificate to take over from was not ended: try again');
  }

  #requirePredecessor(
    { predecessor, lineage, agent }: CertificateMutation['certificate'],
    entry: EntryState | undefined,
  ): void {
    if (predecessor === undefined) return;
    const rows = this.#statements.predecessors.all(predecessor);
    if (rows.length === 0)
      throw new VouchError('denied-certificate', 'the certificate to renew is not known here: enroll again');
    if (__VOUCH_WITHOUT__ !== 'I7' && rows.some((row) => row.revoked === 1))
      throw new VouchError('denied-revoked', 'the certificate to renew is revoked: ask the operator');
    const own = rows.filter((row) => row.lineage === lineage);
    assert(own.length > 0, 'a renewal stays in its lineage');
    if (
      !own.some((row) => row.entry_number === (entry?.entry_number ?? null) && row.agent === (agent ?? null))
    )
      throw new VouchError('denied-certificate', 'the certificate to renew is of another registration entry');
  }

  #insert(
    c: CertificateMutation['certificate'],
    leafIndex: number,
    entry: EntryState | undefined,
    token: TokenState | undefined,
  ): void {
    if (this.#reads.revocation.get(c.serial, c.issuerKeyId) !== undefined) throw serialTaken();
    try {
      this.#statements.insert.run(
        leafIndex,
        c.issuerKeyId,
        c.serial,
        c.spiffeId,
        entry?.entry_number ?? null,
        token?.token_number ?? null,
        c.predecessor ?? null,
        c.lineage === c.serial ? null : c.lineage,
        c.spkiSha256,
        c.notBeforeMs,
        c.notAfterMs,
        c.issuedAtMs,
        c.salt,
        c.tbs,
        c.decision,
        c.agent ?? null,
        c.node ?? null,
        token?.created_by ?? null,
      );
    } catch (error) {
      throw isDuplicate(error) ? serialTaken(error) : error;
    }
  }

  #burn(token: TokenState, spkiSha256: string, leafIndex: number): void {
    const burnt = this.#statements.burn.run(token.token_number).changes === 1;
    if (__VOUCH_WITHOUT__ !== 'I6' && !burnt)
      throw new VouchError(
        'policy-key-conflict',
        'this join token was used up with another key: ask the operator for a new one',
      );
    this.#statements.insertUse.run(token.token_number, spkiSha256, leafIndex);
  }
}

/** A retry is an answer that got lost; who comes back later, or after a revocation, is no retry. */
function requireFresh(stored: StandingRow, atMs: number): void {
  if (stored.revoked_at_ms !== null)
    throw new VouchError('denied-revoked', 'the certificate of this join token is revoked');
  const halfLifeMs = stored.issued_at_ms + (stored.not_after_ms - stored.issued_at_ms) / 2;
  if (atMs > halfLifeMs)
    throw new VouchError(
      'denied-token-used',
      'this join token was used long ago: renew the certificate, or ask the operator for a new token',
    );
}

function serialTaken(cause?: unknown): VouchError {
  return new VouchError('policy-conflict', 'this serial number is taken: try again with a fresh one', {
    cause,
  });
}

function prepareIssue(db: Connection) {
  return {
    entryState: db.prepare<[string], EntryState>(
      'SELECT entry_number, version, suspended_at_ms, parent_id FROM entries WHERE entry_id = ? AND deleted_at_ms IS NULL',
    ),
    tokenState: db.prepare<[string], TokenState>(
      'SELECT token_number, entry_number, created_by, expires_at_ms, revoked_at_ms FROM join_tokens WHERE token_id = ?',
    ),
    predecessors: db.prepare<[Serial], Predecessor>(
      `SELECT c.entry_number, c.agent, coalesce(c.lineage, c.serial) AS lineage, EXISTS (SELECT 1 FROM revocations AS r WHERE r.serial = c.serial
         AND r.issuer_key_id = c.issuer_key_id AND r.followed_by IS NULL AND r.reason <> 'removeFromCRL') AS revoked
       FROM certificates AS c WHERE c.serial = ?`,
    ),
    insert: db.prepare<unknown[]>(
      `INSERT INTO certificates (leaf_index, issuer_key_id, serial, spiffe_id, entry_number, token_number, predecessor, lineage, spki_sha256,
         not_before_ms, not_after_ms, issued_at_ms, salt, tbs, decision, agent, node, operator)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    burn: db.prepare<[number]>(
      'UPDATE join_tokens SET uses_taken = uses_taken + 1 WHERE token_number = ? AND uses_taken < uses_allowed',
    ),
    insertUse: db.prepare<[number, string, number]>(
      'INSERT INTO token_uses (token_number, spki_sha256, leaf_index) VALUES (?, ?, ?)',
    ),
  };
}
