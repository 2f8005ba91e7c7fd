import { rfc3339 } from '../core/clock.ts';
import { decodeJsonBody, decodeLeaf, decodeRevocationBody, type Leaf } from '../log/leaf.ts';
import type { StoreReader } from '../store/port.ts';

/** A leaf as the record of an operator's deed; undefined for what no operator does: certificates and CRLs. */
export function deedOf(
  bytes: Buffer,
  logIndex: number,
  store: Pick<StoreReader, 'revocationEvents'>,
): object | undefined {
  const leaf = decodeLeaf(bytes);
  const isEvent = leaf.type === 'revocation' || leaf.type === 'release';
  const what = isEvent ? revocationDeed(leaf, logIndex, store) : jsonDeed(leaf);
  return what && { logIndex, time: rfc3339(leaf.timeMs), type: leaf.type, ...what };
}

function jsonDeed(leaf: Leaf): object | undefined {
  if (!['token', 'entry', 'operator', 'authority'].includes(leaf.type)) return undefined;
  const body = decodeJsonBody(leaf.body);
  return typeof body === 'object' && body !== null ? body : {};
}

/** Who revoked stands salted in the leaf; the store has the name and the salt, `vouch log verify` compares them. */
function revocationDeed(leaf: Leaf, logIndex: number, store: Pick<StoreReader, 'revocationEvents'>): object {
  const { issuerKeyId } = leaf;
  const { serial, reason, revokedAtMs } = decodeRevocationBody(leaf.body);
  const event = leaf.type === 'release' ? 'released' : 'revoked';
  const row = store.revocationEvents(issuerKeyId, serial).find(({ leafIndex }) => leafIndex === logIndex);
  const operator = row?.operator ?? null;
  return { event, operator, issuerKeyId, serial, reason, revokedAt: rfc3339(revokedAtMs) };
}
