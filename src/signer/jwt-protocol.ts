import { type JwtClaims, jwtAudience } from '../core/jwt-svid.ts';
import { parseSpiffeId } from '../core/spiffe-id.ts';
import { keyIdOf } from '../x509/public-key.ts';
import type { Packer, Unpacker } from './packing.ts';
import type { JwtKey } from './port.ts';

/** A JWT-SVID to sign. The signer makes the bytes from it: none are sent. */
export interface JwtOrder {
  /** Of the key that is to sign it. */
  keyId: string;
  claims: JwtClaims;
}

const keyIdMaxChars = 40;
/** Largest `iss` and `sub`. */
const nameMaxBytes = 2048;
const tokenIdMaxChars = 64;

/** Writes an order's fields. */
export function packJwt(out: Packer, { keyId, claims }: JwtOrder): void {
  out.text(keyId).text(claims.tokenIssuer).text(claims.spiffeId);
  out.list(claims.audience, (one) => out.text(one));
  out.u64(claims.issuedAtSeconds).u64(claims.expiresAtSeconds).text(claims.tokenId);
}

/** Reads them. Throws `request-malformed`. */
export function unpackJwt(from: Unpacker): JwtOrder {
  return {
    keyId: from.text(keyIdMaxChars),
    claims: {
      tokenIssuer: from.text(nameMaxBytes),
      spiffeId: parseSpiffeId(from.text(nameMaxBytes)),
      audience: from.list(jwtAudience.most, () => from.text(jwtAudience.maxBytes)),
      issuedAtSeconds: from.u64(),
      expiresAtSeconds: from.u64(),
      tokenId: from.text(tokenIdMaxChars),
    },
  };
}

/** The key as a greeting has it: base64 of its SubjectPublicKeyInfo. */
export function jwtKeyText({ publicKeySpki }: JwtKey): string {
  return publicKeySpki.toString('base64');
}

/** Reads it; undefined where there is none. Throws `request-malformed` for what is no key. */
export function jwtKeyOf(value: unknown): JwtKey | undefined {
  if (typeof value !== 'string') return undefined;
  const publicKeySpki = Buffer.from(value, 'base64');
  return { keyId: keyIdOf(publicKeySpki), publicKeySpki };
}
