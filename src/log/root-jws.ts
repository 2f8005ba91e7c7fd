import { constants, hash, type KeyObject, verify } from 'node:crypto';
import { canonicalJson } from '../core/canonical-json.ts';
import { VouchError } from '../core/errors.ts';
import { digestOf, type SignatureAlgorithm } from '../x509/algorithm.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { decodeBase64Url } from './base64.ts';
import type { StatementAlgorithm } from './statement.ts';

/** A root's JWS algorithm is that of its certificates (RFC 7518 §3.1, RFC 8037 §3.1). */
const jwsAlgorithms = {
  'ecdsa-sha256': 'ES256',
  'ecdsa-sha384': 'ES384',
  'rsa-pkcs1-sha256': 'RS256',
  'rsa-pss-sha256': 'PS256',
  ed25519: 'EdDSA',
} as const satisfies Record<SignatureAlgorithm, StatementAlgorithm>;

/** Its name in a JWS header. */
export function jwsAlgorithmOf(algorithm: SignatureAlgorithm): StatementAlgorithm {
  return jwsAlgorithms[algorithm];
}

/** What stands in the header of a JWS that a root signs; `kid` is the root's key id. */
export interface RootJwsHeader {
  alg: string;
  kid: string;
  typ: string;
}

/** What the root signs: base64url(canonical JSON of the header) `.` base64url(payload) (RFC 7515 §5.1). */
export function rootJwsInput(header: RootJwsHeader, payload: Buffer): string {
  return `${encodedHeader(header)}.${payload.toString('base64url')}`;
}

/** The compact JWS without its payload, which is kept beside it (RFC 7515 appendix F). `signature`: ECDSA as r ‖ s. */
export function detachedJws(signingInput: string, signature: Buffer): string {
  const header = signingInput.slice(0, signingInput.indexOf('.'));
  return `${header}..${signature.toString('base64url')}`;
}

/**
 * Checks a detached JWS of this root over `payload`: algorithm and key id are the root's, never the header's, which
 * must say the same in its one encoding. Throws `integrity-signature`, naming `what`.
 */
export function verifyDetachedJws(
  jws: string,
  payload: Buffer,
  root: { spki: Buffer; typ: string; algorithm: SignatureAlgorithm },
  what: string,
): void {
  const info = importPublicKey(root.spki);
  const { algorithm } = root;
  const header = { alg: jwsAlgorithmOf(algorithm), kid: info.keyId, typ: root.typ };
  const [head, middle, encoded = '', ...rest] = jws.trimEnd().split('.', 4);
  const signature = decodeBase64Url(encoded);
  if (middle !== '' || rest.length > 0 || !signature || head !== encodedHeader(header))
    throw new VouchError(
      'integrity-signature',
      `${what} was not signed by this root: its header names another key, algorithm or type`,
    );
  const input = Buffer.from(rootJwsInput(header, payload), 'ascii');
  if (!verified(algorithm, info.key, input, signature))
    throw new VouchError(
      'integrity-signature',
      `${what} is not what the root signed (SHA-256 ${hash('sha256', payload)})`,
    );
}

function verified(algorithm: SignatureAlgorithm, key: KeyObject, input: Buffer, signature: Buffer): boolean {
  const options =
    algorithm === 'rsa-pss-sha256' ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 } : {};
  return verify(digestOf[algorithm], input, { key, dsaEncoding: 'ieee-p1363', ...options }, signature);
}

function encodedHeader({ alg, kid, typ }: RootJwsHeader): string {
  return Buffer.from(canonicalJson({ alg, kid, typ }), 'utf8').toString('base64url');
}
