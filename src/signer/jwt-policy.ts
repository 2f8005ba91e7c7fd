import { VouchError } from '../core/errors.ts';
import { isJwtAudience, type JwtClaims, jwtAudience, jwtSigningInput } from '../core/jwt-svid.ts';
import { isReserved, parseSpiffeId, trustDomainOf } from '../core/spiffe-id.ts';
import { rawEcdsaSignature } from '../x509/ecdsa.ts';
import { keyIdOf } from '../x509/public-key.ts';
import type { SignerAuthority } from './authority-file.ts';
import type { Hsm, HsmKey } from './hsm.ts';
import type { JwtOrder } from './jwt-protocol.ts';
import type { JwtKey } from './port.ts';

/** Longest life of a token that a key of ours signs, from the day it is made: nothing ends a bearer's token sooner. */
export const jwtMaxSeconds = 3600;

const issuerGrammar = /^https?:\/\/[!-~]{1,2040}$/;
/** 16 bytes in base64url. */
const tokenIdGrammar = /^[A-Za-z0-9_-]{22}$/;
const p256Bytes = 32;

/** What a JWT-SVID is signed with and judged by. */
export interface JwtContext {
  authority: SignerAuthority;
  hsm: Hsm;
  nowMs: number;
}

/** A token's key by its name. */
export function jwtKeyIn({ publicKeySpki }: HsmKey): JwtKey {
  return { keyId: keyIdOf(publicKeySpki), publicKeySpki };
}

/**
 * Signs a JWT-SVID, r ‖ s, with the key that is for nothing else (I11). The bytes are made here, from the claims that were
 * checked: no member besides them. Throws `policy-lint`, `policy-names` for what it does not sign, `unavailable-signer`
 * where that key is not here.
 */
export async function signJwt({ keyId, claims }: JwtOrder, context: JwtContext): Promise<Buffer> {
  const { authority, hsm, nowMs } = context;
  const { jwtKey } = authority;
  if (!jwtKey || jwtKeyIn(jwtKey).keyId !== keyId)
    throw new VouchError('unavailable-signer', 'the key for this JWT-SVID is not in this token', {
      retryAfterSeconds: 1,
    });
  if (__VOUCH_WITHOUT__ !== 'I11') checkClaims(claims, authority, jwtKey.maxSeconds, nowMs);
  const signature = await hsm.sign(jwtKey.ckaId, Buffer.from(jwtSigningInput(keyId, claims), 'ascii'));
  return rawEcdsaSignature(signature, p256Bytes);
}

function checkClaims(
  claims: JwtClaims,
  { trustDomain, limits }: SignerAuthority,
  maxSeconds: number,
  nowMs: number,
): void {
  const { tokenIssuer, audience, issuedAtSeconds, expiresAtSeconds, tokenId } = claims;
  const spiffeId = parseSpiffeId(claims.spiffeId);
  if (trustDomainOf(spiffeId) !== trustDomain || isReserved(spiffeId))
    throw new VouchError('policy-names', 'the signer refuses this JWT-SVID: its sub is no workload of ours');
  const nowSeconds = Math.floor(nowMs / 1000);
  if (issuedAtSeconds > nowSeconds + limits.maxFutureSeconds) refuse('its iat is in the future');
  if (issuedAtSeconds < nowSeconds - limits.backdateSeconds) refuse('its iat is long past');
  if (expiresAtSeconds <= issuedAtSeconds) refuse('it ends before it begins');
  if (expiresAtSeconds - issuedAtSeconds > maxSeconds) refuse('it is good for too long');
  if (audience.length === 0 || audience.length > jwtAudience.most)
    refuse(`its aud has not 1 to ${jwtAudience.most} members`);
  for (const one of audience)
    if (!isJwtAudience(one)) refuse('its aud has a member that is empty, too long or not printable');
  if (!issuerGrammar.test(tokenIssuer)) refuse('its iss is no URL');
  if (!tokenIdGrammar.test(tokenId)) refuse('its jti is not 16 bytes');
}

function refuse(why: string): never {
  throw new VouchError('policy-lint', `the signer refuses this JWT-SVID: ${why}`);
}
