import { VouchError } from '../../core/errors.ts';
import { mayFollow } from '../../core/reasons.ts';
import type { Serial } from '../../core/serial.ts';
import { takeOverOperator } from '../../core/take-over.ts';
import type { Mutation } from '../port.ts';
import type { Connection } from './connection.ts';
import type { ReadStatements } from './read-statements.ts';
import { type RevocationRow, revocationOf } from './rows.ts';
import type { Written } from './written.ts';

/** Writes revocations and lets expired ones leave their CRLs. */
export class RevocationWriter {
  readonly #statements: ReturnType<typeof prepareRevoke>;
  readonly #reads: ReadStatements;

  constructor(db: Connection, reads: ReadStatements) {
    this.#statements = prepareRevoke(db);
    this.#reads = reads;
  }

  /** Follows what stands of this serial, where it may; otherwise it is refused with the revocation that stands. */
  revoke(
    { revocation: r, blockKeySha256, massRevocation }: Extract<Mutation, { kind: 'revocation' }>,
    leafIndex: number,
  ): Written {
    const standing = this.#reads.revocation.get(r.serial, r.issuerKeyId);
    const isStanding = standing !== undefined && standing.reason !== 'removeFromCRL';
    // Whoever takes over would otherwise answer for what an operator ended or holds.
    const takesOver = r.operator === takeOverOperator && isStanding;
    if (takesOver || !mayFollow(standing?.reason, r.reason)) return refused(r.serial, standing);
    if (standing !== undefined) this.#statements.follow.run(leafIndex, standing.leaf_index);
    this.#statements.insert.run(
      leafIndex,
      r.issuerKeyId,
      r.serial,
      r.shard,
      r.revokedAtMs,
      r.reason,
      r.invalidityDateSeconds ?? null,
      r.operator,
      r.salt,
      r.notAfterMs,
      isStanding ? standing.crl_date_seconds : null,
      standing?.may_leave ?? 0,
    );
    if (blockKeySha256 !== undefined) this.#statements.block.run(blockKeySha256, leafIndex);
    if (massRevocation !== undefined) this.#statements.count.run(massRevocation);
    return undefined;
  }

  begin({ massRevocation: m }: Extract<Mutation, { kind: 'mass-revocation' }>, leafIndex: number): undefined {
    const { target, reason, invalidityDateSeconds = null, operator, startedAtMs } = m;
    this.#statements.begin.run(leafIndex, target, reason, invalidityDateSeconds, operator, startedAtMs);
  }

  end(
    { massRevocation }: Extract<Mutation, { kind: 'mass-revocation-ended' }>,
    leafIndex: number,
  ): undefined {
    if (this.#statements.end.run(leafIndex, massRevocation).changes === 0)
      throw new VouchError('policy-conflict', `no mass revocation ${massRevocation} is under way`);
  }

  /** Blocks the key of a certificate whose revocation did not. */
  block({ revoked, spkiSha256 }: Extract<Mutation, { kind: 'key-blocked' }>): undefined {
    const standing = this.#reads.revocation.get(revoked.serial, revoked.issuerKeyId);
    if (standing === undefined || standing.reason === 'removeFromCRL')
      throw new VouchError(
        'request-not-found',
        `${revoked.serial} is not revoked: revoke it for keyCompromise`,
      );
    if (this.#statements.block.run(spkiSha256, standing.leaf_index).changes === 0)
      throw new VouchError('policy-conflict', `the key of ${revoked.serial} is blocked already`);
  }

  /** Marks those of `serials` that may leave by I5; any other stays where it is. */
  release(issuerKeyId: string, serials: readonly Serial[]): void {
    const release = __VOUCH_WITHOUT__ !== 'I5' ? this.#statements.release : this.#statements.unsafeRelease;
    for (const serial of serials) release.run(serial, issuerKeyId);
  }
}

function refused(serial: Serial, standing: RevocationRow | undefined): Written {
  const detail =
    standing === undefined || standing.reason === 'removeFromCRL'
      ? `${serial} is not revoked`
      : `${serial} is revoked already`;
  return {
    status: 'refused',
    code: 'policy-conflict',
    detail,
    ...(standing && { revocation: revocationOf(standing) }),
  };
}

function prepareRevoke(db: Connection) {
  return {
    insert: db.prepare<unknown[]>(
      `INSERT INTO revocations (leaf_index, issuer_key_id, serial, shard, revoked_at_ms, reason, invalidity_date_seconds, operator, salt,
         not_after_ms, crl_date_seconds, may_leave) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    follow: db.prepare<[number, number]>('UPDATE revocations SET followed_by = ? WHERE leaf_index = ?'),
    begin: db.prepare<unknown[]>(
      'INSERT INTO mass_revocations (leaf_index, target, reason, invalidity_date_seconds, operator, started_at_ms) VALUES (?, ?, ?, ?, ?, ?)',
    ),
    count: db.prepare<[number]>(
      'UPDATE mass_revocations SET event_count = event_count + 1 WHERE leaf_index = ?',
    ),
    end: db.prepare<[number, number]>(
      'UPDATE mass_revocations SET ended_by = ? WHERE leaf_index = ? AND ended_by IS NULL',
    ),
    block: db.prepare<[string, number]>(
      'INSERT INTO blocked_keys (spki_sha256, leaf_index) VALUES (?, ?) ON CONFLICT DO NOTHING',
    ),
    // It stood on the newest scheduled CRL of its shard or of all, which covers its leaf and is past its notAfter.
    release: db.prepare<[Serial, string]>(
      `UPDATE revocations SET may_leave = 1
       WHERE serial = ? AND issuer_key_id = ? AND followed_by IS NULL AND reason <> 'removeFromCRL' AND crl_date_seconds IS NOT NULL
         AND EXISTS (
         SELECT 1 FROM crl_scopes AS s
         WHERE s.issuer_key_id = revocations.issuer_key_id AND s.scope IN ('full', CAST(revocations.shard AS TEXT))
           AND s.scheduled_this_update_seconds * 1000 > revocations.not_after_ms
           AND s.scheduled_covers_tree_size > revocations.leaf_index)`,
    ),
    unsafeRelease: db.prepare<[Serial, string]>(
      'UPDATE revocations SET may_leave = 1 WHERE serial = ? AND issuer_key_id = ? AND followed_by IS NULL',
    ),
  };
}
