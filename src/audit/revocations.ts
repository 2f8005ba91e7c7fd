import { shardOf } from '../core/publication.ts';
import type { StateRows, StoredRevocation } from '../store/rows-port.ts';
import { decisionContext, decodeRevocationBody, type Leaf } from '../log/leaf.ts';
import { revocationDecision } from '../sequencer/record.ts';
import type { Authorities } from './authorities.ts';
import { LeafRows } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 256;
const saltBytes = 16;

/**
 * Holds every revocation's row against its leaf: serial, reason and time from its body, the operator from its context,
 * shard from the serial, notAfter from the certificate. What CRLs make of it, date and leave, is theirs to check.
 */
export class RevocationCheck {
  count = 0;
  readonly #walk: LeafRows<StoredRevocation>;
  readonly #shardCount: number;
  readonly #authorities: Authorities;
  readonly #problems: Problems;

  constructor(parts: { rows: StateRows; shardCount: number; authorities: Authorities; problems: Problems }) {
    this.#shardCount = parts.shardCount;
    this.#authorities = parts.authorities;
    this.#problems = parts.problems;
    this.#walk = new LeafRows(parts.rows.revocations, pageRows, (row) =>
      parts.problems.add(`the revocation of ${row.serial}, leaf ${row.leafIndex}, is not in the log`),
    );
  }

  leaf(leaf: Leaf, index: number): void {
    if (leaf.type !== 'revocation') return;
    this.count += 1;
    const { serial, reason, revokedAtMs } = decodeRevocationBody(leaf.body);
    const row = this.#walk.at(index);
    if (!row) {
      this.#problems.add(`leaf ${index} revokes ${serial}, which the store does not know as revoked`);
      return;
    }
    const what = `the revocation of ${serial}, leaf ${index}`;
    const { issuerKeyId } = leaf;
    const expected = {
      issuerKeyId,
      serial,
      reason,
      revokedAtMs,
      notAfterMs: this.#notAfterMs(row, issuerKeyId),
    };
    this.#problems.compare(what, row, { ...expected, shard: shardOf(serial, this.#shardCount) });
    if (
      row.salt.length !== saltBytes ||
      !decisionContext(row.salt, revocationDecision(row)).equals(leaf.context)
    )
      this.#problems.add(`${what}: its operator ${row.operator} is not the one that the leaf commits to`);
    if (blocksItsKey(row, reason) && row.keyBlocked === 0)
      this.#problems.add(`${what}: the compromised key ${row.certificateSpkiSha256} is not blocked`);
  }

  finish(): void {
    this.#walk.finish();
  }

  /** Of a certificate that the state does not know, as a restore leaves it, the latest that it can be. */
  #notAfterMs(row: StoredRevocation, issuerKeyId: string): number | undefined {
    return row.certificateNotAfterMs ?? this.#authorities.issuer(issuerKeyId)?.notAfterMs;
  }
}

function blocksItsKey(row: StoredRevocation, reason: string): boolean {
  return reason === 'keyCompromise' && row.certificateSpkiSha256 !== null;
}
