import { BlockList, isIPv4, isIPv6 } from 'node:net';
import { VouchError } from '../../../core/errors.ts';
import { joinTokenHash } from './token.ts';
import type { StoreReader } from '../../../store/port.ts';
import type { JoinTokenRecord } from '../../../store/records.ts';
import type { AttestationContext, Attested, Evidence, NodeAttestor } from '../../port.ts';

/** Selector type, evidence type and attestor name in one. */
export const joinTokenType = 'join_token';

/**
 * Bearer evidence: who shows the token is the holder of its one selector. Checked here: known, unrevoked, unexpired,
 * from an allowed address. Uses are counted in the issuing transaction, not here (I6).
 */
export function joinTokenAttestor(store: Pick<StoreReader, 'tokenBySecret'>): NodeAttestor {
  return {
    type: joinTokenType,
    async attest(evidence: Evidence, context: AttestationContext): Promise<Attested> {
      const token = store.tokenBySecret(joinTokenHash(evidence.data));
      if (!token)
        throw new VouchError(
          'denied-evidence',
          'the join token is not known here; ask the operator for a new join file',
        );
      refuseDead(token, context.nowMs);
      refuseForeign(token, context.peerAddress);
      return {
        selectors: [{ type: joinTokenType, value: token.tokenId }],
        tokenId: token.tokenId,
        audit: {
          type: joinTokenType,
          tokenId: token.tokenId,
          peerAddress: context.peerAddress,
          createdBy: token.createdBy,
        },
      };
    },
  };
}

function refuseDead(token: JoinTokenRecord, nowMs: number): void {
  if (token.revokedAtMs !== undefined)
    throw new VouchError(
      'denied-token-revoked',
      'the join token was revoked; ask the operator for a new join file',
    );
  if (nowMs > token.expiresAtMs)
    throw new VouchError(
      'denied-token-expired',
      'the join token has expired; ask the operator for a new join file',
    );
}

function refuseForeign(token: JoinTokenRecord, peerAddress: string): void {
  if (token.cidrs.length > 0 && !addressInRanges(peerAddress, token.cidrs))
    throw new VouchError('denied-token-address', 'the join token may not be used from this address');
}

/** True where the address lies in one of the CIDR ranges. */
export function addressInRanges(address: string, cidrs: readonly string[]): boolean {
  const ranges = new BlockList();
  for (const cidr of cidrs) {
    const { base, bits, family } = parseCidr(cidr);
    ranges.addSubnet(base, bits, family);
  }
  if (isIPv4(address)) return ranges.check(address, 'ipv4');
  return isIPv6(address) && ranges.check(address, 'ipv6');
}

/** Parses `10.0.0.0/8` or `2001:db8::/32`; an address alone is a range of one. Throws `request-malformed`. */
export function parseCidr(text: string): { base: string; bits: number; family: 'ipv4' | 'ipv6' } {
  const [base = '', length, ...rest] = text.split('/');
  const family = isIPv4(base) ? 'ipv4' : 'ipv6';
  const most = family === 'ipv4' ? 32 : 128;
  const bits = length === undefined ? most : Number(length);
  const wellFormed =
    rest.length === 0 && (isIPv4(base) || isIPv6(base)) && (length === undefined || /^\d{1,3}$/.test(length));
  if (!wellFormed || bits > most)
    throw new VouchError(
      'request-malformed',
      `not an address range such as 10.0.0.0/8: ${JSON.stringify(text.slice(0, 60))}`,
    );
  return { base, bits, family };
}
