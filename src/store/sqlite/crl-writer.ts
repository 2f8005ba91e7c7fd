import { VouchError } from '../../core/errors.ts';
import type { Serial } from '../../core/serial.ts';
import type { Mutation } from '../port.ts';
import type { Connection } from './connection.ts';
import type { CrlPieceWriter } from './crl-pieces.ts';
import type { ReadStatements } from './read-statements.ts';
import type { RevocationRow } from './rows.ts';

type CrlMutation = Extract<Mutation, { kind: 'crl' }>;

/** How many CRLs of a scope are kept: the one that is served while the next one is being signed. */
const keptCrls = 2;

/** Largest integer that SQLite holds; Unix milliseconds get there in 292 million years. */
const maxCrlNumber = 2n ** 63n - 1n;

/** Reserves CRL numbers with their TBSCertList, and fixes revocation dates (I5). Throws `integrity-crl`. */
export class CrlWriter {
  readonly #statements: ReturnType<typeof prepareCrl>;
  readonly #reads: ReadStatements;
  readonly #pieces: CrlPieceWriter;

  constructor(db: Connection, reads: ReadStatements, pieces: CrlPieceWriter) {
    this.#statements = prepareCrl(db);
    this.#reads = reads;
    this.#pieces = pieces;
  }

  record({ crl, datesFixed }: CrlMutation, leafIndex: number): undefined {
    this.#requireRisingNumber(crl);
    for (const { serial, crlDateSeconds } of datesFixed) this.#fixDate(crl, serial, crlDateSeconds);
    this.#insert(crl, leafIndex);
    this.#prune(crl);
  }

  /** Keeps a signature. Only with it a scheduled CRL is one, after which entries may leave. */
  keepSignature(leafIndex: number, signature: Buffer): void {
    if (this.#statements.sign.run(signature, leafIndex).changes > 0) this.#statements.schedule.run(leafIndex);
  }

  #prune({ issuerKeyId, scope }: CrlMutation['crl']): void {
    const gone = this.#statements.prune.all({ issuerKeyId, scope, kept: keptCrls });
    if (gone.some(({ length }) => length > 0))
      this.#pieces.prune(gone, this.#statements.keptPieces.all(issuerKeyId));
  }

  /** Numbers of a scope rise. Over all scopes they do in the order in which content was taken, not of commits (adr 011). */
  #requireRisingNumber({ issuerKeyId, scope, crlNumber }: CrlMutation['crl']): void {
    if (crlNumber > maxCrlNumber)
      throw new VouchError('integrity-crl', `CRL number ${crlNumber} is out of range`);
    const ofScope = BigInt(this.#reads.lastCrlNumberOfScope.get(issuerKeyId, scope) ?? -1);
    if (__VOUCH_WITHOUT__ !== 'I5' && crlNumber <= ofScope)
      throw new VouchError(
        'integrity-crl',
        `CRL number ${crlNumber} of ${scope} must be above ${ofScope}: numbers never fall`,
      );
  }

  /** Of the event that the CRL carries, and of those that came since and take its date over. */
  #fixDate(crl: CrlMutation['crl'], serial: Serial, crlDateSeconds: number): void {
    let event = this.#carried(crl, serial);
    if (event === undefined)
      throw new VouchError('integrity-crl', `the revocation date of ${serial} is of no revocation`);
    for (; event; event = this.#takingOver(event)) {
      if (event.crl_date_seconds === null) this.#statements.fixDate.run(crlDateSeconds, event.leaf_index);
      else if (event.crl_date_seconds !== crlDateSeconds)
        throw new VouchError('integrity-crl', `the revocation date of ${serial} is fixed already`);
    }
  }

  /** The last event that the CRL covers. One that was imported covers nothing of this log: then the one that counts. */
  #carried({ issuerKeyId, coversTreeSize }: CrlMutation['crl'], serial: Serial): RevocationRow | undefined {
    const current = this.#reads.revocation.get(serial, issuerKeyId);
    if (coversTreeSize === 0 || !current || current.leaf_index < coversTreeSize) return current;
    return this.#reads.revocationBefore.get(serial, issuerKeyId, coversTreeSize);
  }

  /** What came next, unless it begins anew behind a release. */
  #takingOver({ reason, followed_by: next }: RevocationRow): RevocationRow | undefined {
    return next === null || reason === 'removeFromCRL' ? undefined : this.#reads.revocationOfLeaf.get(next);
  }

  #insert(crl: CrlMutation['crl'], leafIndex: number): void {
    this.#statements.insert.run(
      leafIndex,
      crl.issuerKeyId,
      crl.scope,
      crl.crlNumber,
      crl.thisUpdateSeconds,
      crl.nextUpdateSeconds,
      crl.scheduled ? 1 : 0,
      crl.base ? 1 : 0,
      crl.coversTreeSize,
      crl.tbs.head,
      crl.tbs.tail,
      this.#pieces.put(crl.tbs.list.pieces),
    );
    this.#statements.advance.run(crl.issuerKeyId, crl.scope, crl.crlNumber);
  }
}

function prepareCrl(db: Connection) {
  return {
    insert: db.prepare<unknown[]>(
      `INSERT INTO crls (leaf_index, issuer_key_id, scope, crl_number, this_update_seconds, next_update_seconds, scheduled, base, covers_tree_size, head, tail, pieces)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    advance: db.prepare<[string, string, bigint]>(
      `INSERT INTO crl_scopes (issuer_key_id, scope, last_number) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET last_number = excluded.last_number`,
    ),
    // A CRL that is gone was pruned after two newer ones.
    sign: db.prepare<[Buffer, number]>(
      'UPDATE crls SET signature = ? WHERE leaf_index = ? AND signature IS NULL',
    ),
    schedule: db.prepare<[number]>(
      `UPDATE crl_scopes SET scheduled_this_update_seconds = c.this_update_seconds, scheduled_covers_tree_size = c.covers_tree_size
       FROM crls AS c WHERE c.leaf_index = ? AND c.scheduled = 1 AND crl_scopes.issuer_key_id = c.issuer_key_id
         AND crl_scopes.scope = c.scope AND c.this_update_seconds >= ifnull(crl_scopes.scheduled_this_update_seconds, -1)`,
    ),
    fixDate: db.prepare<[number, number]>('UPDATE revocations SET crl_date_seconds = ? WHERE leaf_index = ?'),
    // The newest signed one is what is served: it stays however many unsigned ones a signer that is away leaves. So
    // does the one that delta CRLs go with.
    prune: db
      .prepare<[{ issuerKeyId: string; scope: string; kept: number }], Buffer>(
        `DELETE FROM crls WHERE leaf_index IN (
           SELECT leaf_index FROM crls WHERE issuer_key_id = @issuerKeyId AND scope = @scope ORDER BY crl_number DESC LIMIT -1 OFFSET @kept)
         AND crl_number IS NOT (SELECT max(crl_number) FROM crls WHERE issuer_key_id = @issuerKeyId AND scope = @scope AND signature IS NOT NULL)
         AND (@scope <> 'full' OR crl_number IS NOT (SELECT max(crl_number) FROM crls
           WHERE issuer_key_id = @issuerKeyId AND scope = 'full' AND signature IS NOT NULL AND base = 1))
         RETURNING pieces`,
      )
      .pluck(),
    keptPieces: db.prepare<[string], Buffer>('SELECT pieces FROM crls WHERE issuer_key_id = ?').pluck(),
  };
}
