import { VouchError } from '../../core/errors.ts';
import type { Serial } from '../../core/serial.ts';
import type { Mutation } from '../port.ts';
import type { Connection } from './connection.ts';
import type { ReadStatements } from './read-statements.ts';
import { revocationOf } from './rows.ts';
import type { Written } from './written.ts';

/** Writes revocations and lets expired ones leave their CRLs. */
export class RevocationWriter {
  readonly #statements: ReturnType<typeof prepareRevoke>;
  readonly #reads: ReadStatements;

  constructor(db: Connection, reads: ReadStatements) {
    this.#statements = prepareRevoke(db);
    this.#reads = reads;
  }

  /** A serial is revoked once: again, it is refused with the revocation that stands. */
  revoke(
    { revocation: r, blockKeySha256 }: Extract<Mutation, { kind: 'revocation' }>,
    leafIndex: number,
  ): Written {
    const standing = this.#reads.revocation.get(r.serial, r.issuerKeyId);
    if (standing !== undefined)
      return {
        status: 'refused',
        code: 'policy-conflict',
        detail: `${r.serial} is revoked already`,
        revocation: revocationOf(standing),
      };
    this.#statements.insert.run(
      leafIndex,
      r.issuerKeyId,
      r.serial,
      r.shard,
      r.revokedAtMs,
      r.reason,
      r.operator,
      r.salt,
      r.notAfterMs,
    );
    if (blockKeySha256 !== undefined) this.#statements.block.run(blockKeySha256, leafIndex);
    return undefined;
  }

  /** Blocks the key of a certificate whose revocation did not. */
  block({ revoked, spkiSha256 }: Extract<Mutation, { kind: 'key-blocked' }>): undefined {
    const standing = this.#reads.revocation.get(revoked.serial, revoked.issuerKeyId);
    if (standing === undefined)
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

function prepareRevoke(db: Connection) {
  return {
    insert: db.prepare<[number, string, Serial, number, number, string, string, Buffer, number]>(
      `INSERT INTO revocations (leaf_index, issuer_key_id, serial, shard, revoked_at_ms, reason, operator, salt, not_after_ms, may_leave)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0)`,
    ),
    block: db.prepare<[string, number]>(
      'INSERT INTO blocked_keys (spki_sha256, leaf_index) VALUES (?, ?) ON CONFLICT DO NOTHING',
    ),
    // It stood on the newest scheduled CRL of its shard or of all, which covers its leaf and is past its notAfter.
    release: db.prepare<[Serial, string]>(
      `UPDATE revocations SET may_leave = 1
       WHERE serial = ? AND issuer_key_id = ? AND crl_date_seconds IS NOT NULL AND EXISTS (
         SELECT 1 FROM crl_scopes AS s
         WHERE s.issuer_key_id = revocations.issuer_key_id AND s.scope IN ('full', CAST(revocations.shard AS TEXT))
           AND s.scheduled_this_update_seconds * 1000 > revocations.not_after_ms
           AND s.scheduled_covers_tree_size > revocations.leaf_index)`,
    ),
    unsafeRelease: db.prepare<[Serial, string]>(
      'UPDATE revocations SET may_leave = 1 WHERE serial = ? AND issuer_key_id = ?',
    ),
  };
}
