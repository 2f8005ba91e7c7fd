import { canonicalJson } from './canonical-json.ts';
import type { SpiffeId } from './spiffe-id.ts';

/** What a JWT-SVID of ours says (JWT-SVID §3), and all that it says. */
export interface JwtClaims {
  /** `iss`: the token issuer's URL, where OpenID Connect finds the keys. */
  tokenIssuer: string;
  /** `sub` */
  spiffeId: SpiffeId;
  /** `aud`: 1 to 8. */
  audience: readonly string[];
  /** `iat`, Unix seconds. */
  issuedAtSeconds: number;
  /** `exp`, Unix seconds. */
  expiresAtSeconds: number;
  /** `jti`: 16 random bytes in base64url, which the server's log has, too. */
  tokenId: string;
}

/** The key is P-256 (RFC 7518 §3.4). */
export const jwtAlgorithm = 'ES256';

/** Most audiences of one token, and most bytes of each. */
export const jwtAudience = { most: 8, maxBytes: 1024 } as const;

/** No control characters, and no half of a surrogate pair, which UTF-8 cannot carry: signer and server would differ. */
const audienceGrammar = /^[^\p{Cc}\p{Cs}]+$/u;

/** Whether a text may be a member of `aud`. */
export function isJwtAudience(text: string): boolean {
  return audienceGrammar.test(text) && Buffer.byteLength(text) <= jwtAudience.maxBytes;
}

/** What is signed of a JWT-SVID: base64url(header) `.` base64url(claims), both canonical JSON (RFC 7515 §5.1). */
export function jwtSigningInput(keyId: string, claims: JwtClaims): string {
  const header = canonicalJson({ alg: jwtAlgorithm, kid: keyId, typ: 'JWT' });
  const payload = canonicalJson({
    iss: claims.tokenIssuer,
    sub: claims.spiffeId,
    aud: claims.audience,
    iat: claims.issuedAtSeconds,
    exp: claims.expiresAtSeconds,
    jti: claims.tokenId,
  });
  return `${encoded(header)}.${encoded(payload)}`;
}

function encoded(text: string): string {
  return Buffer.from(text, 'utf8').toString('base64url');
}
