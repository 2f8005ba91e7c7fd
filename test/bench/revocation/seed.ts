import { randomBytes } from 'node:crypto';
import Database from 'better-sqlite3';
import { operatorReasons } from '../../../src/core/reasons.ts';
import { newSerial } from '../../../src/core/serial.ts';
import { shardOf } from '../../../src/core/publication.ts';
import { revocationLeaf } from '../../../src/sequencer/record.ts';
import type { Mutation } from '../../../src/store/port.ts';
import { openSqliteStore } from '../../../src/store/sqlite/store.ts';

const perBatch = 5_000;
/** Beyond any run. */
const validMs = 30 * 86_400_000;
const operator = 'uid:0';

/**
 * Records `count` revocations of random, unexpired serials in a state whose server is down, through the store's own port
 * and with leaves as the server writes them; dated, as if CRLs of ten minutes ago had carried them.
 */
export async function seedRevocations(database: string, count: number): Promise<void> {
  const store = openSqliteStore(database);
  const { serialPrefix, shardCount } = store.identity();
  const issuerKeyId = store.authorities().find(({ kind }) => kind === 'issuer')?.keyId ?? '';
  const one = (_: unknown, index: number): Mutation => {
    const serial = newSerial(serialPrefix, randomBytes);
    const revokedAtMs = Date.now();
    const reason = operatorReasons[index % operatorReasons.length] ?? 'unspecified';
    const revocation = {
      issuerKeyId,
      serial,
      shard: shardOf(serial, shardCount),
      revokedAtMs,
      reason,
      operator,
    };
    const record = { ...revocation, salt: randomBytes(16), notAfterMs: revokedAtMs + validMs };
    const leaf = revocationLeaf(revokedAtMs, issuerKeyId, record);
    return { kind: 'revocation', leaf, revocation: record, blockKeySha256: undefined };
  };
  for (let left = count; left > 0; left -= perBatch) {
    const batch = Array.from({ length: Math.min(left, perBatch) }, one);
    const outcomes = await store.commitBatch(batch, { signatures: [], checkpointNote: undefined });
    const failed = outcomes.find(({ status }) => status !== 'committed');
    if (failed) throw new Error(`a revocation was not recorded: ${JSON.stringify(failed)}`);
  }
  await store.close();
  const db = new Database(database);
  // No later than the next CRL's thisUpdate, which may be a minute back (I5).
  db.exec(
    'UPDATE revocations SET crl_date_seconds = revoked_at_ms / 1000 - 600 WHERE crl_date_seconds IS NULL',
  );
  db.close();
}
