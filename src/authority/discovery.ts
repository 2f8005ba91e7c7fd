import { discoveryPaths } from '../core/publication.ts';
import { jwtAlgorithm } from '../core/jwt-svid.ts';

/** What OpenID Connect clients read, UTF-8 of JSON. */
export interface Discovery {
  /** The provider's metadata (OpenID Connect Discovery §3). */
  configuration: Buffer;
  /** A JWK set (RFC 7517 §5). */
  jwks: Buffer;
}

/**
 * How who knows OpenID Connect and no SPIFFE finds the keys of JWT-SVIDs. Nobody logs in here: of the metadata there is
 * what verifiers read, and what clients refuse to be without. `keys`: JWKs with `kid`.
 */
export function discoveryOf(tokenIssuer: string, keys: readonly { kid: string }[]): Discovery {
  const configuration = {
    issuer: tokenIssuer,
    jwks_uri: `${tokenIssuer}${discoveryPaths.jwks}`,
    authorization_endpoint: '',
    response_types_supported: ['id_token'],
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: [jwtAlgorithm],
  };
  const jwks = { keys: keys.map((jwk) => ({ ...jwk, use: 'sig', alg: jwtAlgorithm })) };
  return {
    configuration: Buffer.from(JSON.stringify(configuration)),
    jwks: Buffer.from(JSON.stringify(jwks)),
  };
}
