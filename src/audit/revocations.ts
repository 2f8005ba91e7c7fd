import { shardOf } from '../core/publication.ts';
import { mayFollow, type Reason } from '../core/reasons.ts';
import type { StateRows, StoredRevocation } from '../store/rows-port.ts';
import { decisionContext, decodeRevocationBody, type Leaf } from '../log/leaf.ts';
import { revocationDecision } from '../sequencer/record.ts';
import type { Authorities } from './authorities.ts';
import { LeafRows } from './row-walk.ts';
import type { Problems } from './verification.ts';

const pageRows = 256;
const saltBytes = 16;

/**
 * Holds every revocation's row against its leaf: serial, reason and times from its body, the operator from its context,
 * shard from the serial, notAfter from the certificate; and the events of a serial against each other: each follows the
 * one before and was allowed to. What CRLs make of it, date and leave, is theirs to check.
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
    if (leaf.type !== 'revocation' && leaf.type !== 'release') return;
    if (leaf.type === 'revocation') this.count += 1;
    const { serial, reason, revokedAtMs, invalidityDateSeconds = null } = decodeRevocationBody(leaf.body);
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
      invalidityDateSeconds,
      notAfterMs: this.#notAfterMs(row, issuerKeyId),
    };
    this.#problems.compare(what, row, { ...expected, shard: shardOf(serial, this.#shardCount) });
    if (
      row.salt.length !== saltBytes ||
      !decisionContext(row.salt, revocationDecision(row)).equals(leaf.context)
    )
      this.#problems.add(`${what}: its operator ${row.operator} is not the one that the leaf commits to`);
    if ((leaf.type === 'release') !== (reason === 'removeFromCRL'))
      this.#problems.add(`${what}: a ${leaf.type} with the reason ${reason}`);
    for (const problem of chainProblems(row, reason)) this.#problems.add(`${what}: ${problem}`);
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

/** What is wrong with where a row stands among the events of its serial. */
function chainProblems(row: StoredRevocation, reason: Reason): string[] {
  const { precedingReason, precedingFollowedBy, precedingCrlDateSeconds, precedingMayLeave } = row;
  const problems: string[] = [];
  if (row.followedByOwn === 0)
    problems.push(`followedBy is ${row.followedBy}, which is no revocation of this serial`);
  if (precedingFollowedBy !== null && precedingFollowedBy !== row.leafIndex)
    problems.push(`the one before it says that leaf ${precedingFollowedBy} followed`);
  if (!mayFollow((precedingReason ?? undefined) as Reason | undefined, reason))
    problems.push(`${reason} does not follow ${precedingReason ?? 'nothing'}`);
  const keepsDate = precedingReason !== 'removeFromCRL' && precedingCrlDateSeconds !== null;
  if (keepsDate && row.crlDateSeconds !== precedingCrlDateSeconds)
    problems.push(`its date is ${row.crlDateSeconds}, that of the one before ${precedingCrlDateSeconds}`);
  if (precedingMayLeave === 1 && row.mayLeave === 0) problems.push('the one before it left its CRLs already');
  return problems;
}

function blocksItsKey(row: StoredRevocation, reason: string): boolean {
  return reason === 'keyCompromise' && row.certificateSpkiSha256 !== null;
}
