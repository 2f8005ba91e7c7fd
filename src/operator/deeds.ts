import { rfc3339 } from '../core/clock.ts';
import { decodeJsonBody, decodeLeaf, decodeRevocationBody, type Leaf } from '../log/leaf.ts';
import type { StoreReader } from '../store/port.ts';

/** A leaf as the record of an operator's deed; undefined for what no operator does: certificates and CRLs. */
export function deedOf(
  bytes: Buffer,
  logIndex: number,
  store: Pick<StoreReader, 'revocation'>,
): object | undefined {
  const leaf = decodeLeaf(bytes);
  const what = leaf.type === 'revocation' ? revocationDeed(leaf, store) : jsonDeed(leaf);
  return what && { logIndex, time: rfc3339(leaf.timeMs), type: leaf.type, ...what };
}

function jsonDeed(leaf: Leaf): object | undefined {
  if (!['token', 'entry', 'operator', 'authority'].includes(leaf.type)) return undefined;
  const body = decodeJsonBody(leaf.body);
  return typeof body === 'object' && body !== null ? body : {};
}

/** Who revoked stands salted in the leaf; the store has the name and the salt, `vouch log verify` compares them. */
function revocationDeed(leaf: Leaf, store: Pick<StoreReader, 'revocation'>): object {
  const { issuerKeyId } = leaf;
  const { serial, reason, revokedAtMs } = decodeRevocationBody(leaf.body);
  const operator = store.revocation(issuerKeyId, serial)?.operator ?? null;
  return { event: 'revoked', operator, issuerKeyId, serial, reason, revokedAt: rfc3339(revokedAtMs) };
}
