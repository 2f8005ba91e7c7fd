import { VouchError } from '../../core/errors.ts';
import type { Serial } from '../../core/serial.ts';
import type { Mutation } from '../port.ts';
import type { Connection } from './connection.ts';
import type { ReadStatements } from './read-statements.ts';

type CrlMutation = Extract<Mutation, { kind: 'crl' }>;

/** How many CRLs of a scope are kept: the one that is served while the next one is being signed. */
const keptCrls = 2;

/** Largest integer that SQLite holds; Unix milliseconds get there in 292 million years. */
const maxCrlNumber = 2n ** 63n - 1n;

/** Reserves CRL numbers with their TBSCertList, and fixes revocation dates (I5). Throws `integrity-crl`. */
export class CrlWriter {
  readonly #statements: ReturnType<typeof prepareCrl>;
  readonly #reads: ReadStatements;

  constructor(db: Connection, reads: ReadStatements) {
    this.#statements = prepareCrl(db);
    this.#reads = reads;
  }

  record({ crl, datesFixed }: CrlMutation, leafIndex: number): undefined {
    this.#requireRisingNumber(crl);
    for (const { serial, crlDateSeconds } of datesFixed)
      this.#fixDate(crl.issuerKeyId, serial, crlDateSeconds);
    this.#insert(crl, leafIndex);
    this.#statements.prune.run({ issuerKeyId: crl.issuerKeyId, scope: crl.scope, kept: keptCrls });
  }

  /** One counter for an issuer: a scope's numbers rise, and only a full CRL and the delta made with it share one. */
  #requireRisingNumber({ issuerKeyId, scope, crlNumber }: CrlMutation['crl']): void {
    if (crlNumber > maxCrlNumber)
      throw new VouchError('integrity-crl', `CRL number ${crlNumber} is out of range`);
    const ofScope = BigInt(this.#reads.lastCrlNumberOfScope.get(issuerKeyId, scope) ?? -1);
    const ofIssuer = BigInt(this.#reads.lastCrlNumber.get(issuerKeyId) ?? 0);
    if (__VOUCH_WITHOUT__ !== 'I5' && (crlNumber <= ofScope || crlNumber < ofIssuer))
      throw new VouchError(
        'integrity-crl',
        `CRL number ${crlNumber} of ${scope} must be above ${ofScope} and not below ${ofIssuer}: numbers never fall`,
      );
  }

  #fixDate(issuerKeyId: string, serial: Serial, crlDateSeconds: number): void {
    if (this.#statements.fixDate.run(crlDateSeconds, serial, issuerKeyId).changes === 1) return;
    const fixed = this.#reads.revocation.get(serial, issuerKeyId);
    if (fixed?.crl_date_seconds !== crlDateSeconds)
      throw new VouchError(
        'integrity-crl',
        `the revocation date of ${serial} is ${fixed ? 'fixed already' : 'of no revocation'}`,
      );
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
      crl.coversTreeSize,
      crl.tbs,
    );
    this.#statements.advance.run(crl.issuerKeyId, crl.scope, crl.crlNumber);
    if (crl.scheduled)
      this.#statements.schedule.run(crl.thisUpdateSeconds, crl.coversTreeSize, crl.issuerKeyId, crl.scope);
  }
}

function prepareCrl(db: Connection) {
  return {
    insert: db.prepare<unknown[]>(
      `INSERT INTO crls (leaf_index, issuer_key_id, scope, crl_number, this_update_seconds, next_update_seconds, scheduled, covers_tree_size, tbs)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
    ),
    advance: db.prepare<[string, string, bigint]>(
      `INSERT INTO crl_scopes (issuer_key_id, scope, last_number) VALUES (?, ?, ?)
       ON CONFLICT DO UPDATE SET last_number = excluded.last_number`,
    ),
    schedule: db.prepare<[number, number, string, string]>(
      'UPDATE crl_scopes SET scheduled_this_update_seconds = ?, scheduled_covers_tree_size = ? WHERE issuer_key_id = ? AND scope = ?',
    ),
    fixDate: db.prepare<[number, Serial, string]>(
      'UPDATE revocations SET crl_date_seconds = ? WHERE serial = ? AND issuer_key_id = ? AND crl_date_seconds IS NULL',
    ),
    // The newest signed one is what is served: it stays however many unsigned ones a signer that is away leaves.
    prune: db.prepare<[{ issuerKeyId: string; scope: string; kept: number }]>(
      `DELETE FROM crls WHERE leaf_index IN (
         SELECT leaf_index FROM crls WHERE issuer_key_id = @issuerKeyId AND scope = @scope ORDER BY crl_number DESC LIMIT -1 OFFSET @kept)
       AND crl_number IS NOT (SELECT max(crl_number) FROM crls WHERE issuer_key_id = @issuerKeyId AND scope = @scope AND signature IS NOT NULL)`,
    ),
  };
}
