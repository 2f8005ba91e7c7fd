import { constants, createPublicKey, type JsonWebKey, type KeyObject, verify } from 'node:crypto';
import { VouchError } from '../../core/errors.ts';
import { parseSpiffeId, type SpiffeId, type TrustDomain, trustDomainOf } from '../../core/spiffe-id.ts';
import { decodeBase64Url } from '../../log/base64.ts';
import { hasDuplicateMembers } from './unique-members.ts';

/** What a JWT-SVID is validated by. */
export interface JwtTrust {
  trustDomain: TrustDomain;
  /** Members of `keys` of its bundle, of any use. */
  keys: readonly { readonly [member: string]: unknown }[];
  nowMs: number;
}

/** A JWT-SVID that holds. */
export interface ValidJwtSvid {
  spiffeId: SpiffeId;
  /** All of them, as they stand there. */
  claims: { readonly [name: string]: unknown };
}

/** More than our longest: eight audiences of 1 KiB, a SPIFFE ID of 2. */
const tokenMaxChars = 32 * 1024;
/** How far two clocks may be apart. */
const skewSeconds = 30;
const rsaLeastBits = 2048;

/** RFC 7518 §3.1 without what has a shared key, and nothing that signs nothing (JWT-SVID §2.1). */
const algorithms = {
  ES256: { digest: 'sha256', curve: 'prime256v1' },
  ES384: { digest: 'sha384', curve: 'secp384r1' },
  ES512: { digest: 'sha512', curve: 'secp521r1' },
  RS256: { digest: 'sha256', padding: constants.RSA_PKCS1_PADDING },
  RS384: { digest: 'sha384', padding: constants.RSA_PKCS1_PADDING },
  RS512: { digest: 'sha512', padding: constants.RSA_PKCS1_PADDING },
  PS256: { digest: 'sha256', padding: constants.RSA_PKCS1_PSS_PADDING },
  PS384: { digest: 'sha384', padding: constants.RSA_PKCS1_PSS_PADDING },
  PS512: { digest: 'sha512', padding: constants.RSA_PKCS1_PSS_PADDING },
} as const;
type Algorithm = (typeof algorithms)[keyof typeof algorithms];

/**
 * Validates a JWT-SVID of this trust domain for `audience` (JWT-SVID §3 and §5): a compact JWS by one of the keys that the
 * bundle has for JWT-SVIDs, unexpired, for that audience. Throws `denied-evidence`, saying why.
 */
export function validateJwtSvid(token: string, audience: string, trust: JwtTrust): ValidJwtSvid {
  if (token.length > tokenMaxChars) refuse('it is too long');
  const [header = '', payload = '', signature = '', ...rest] = token.split('.', 4);
  if (signature === '' || rest.length > 0) refuse('it is no compact JWS');
  const { algorithm, key } = keyOf(objectOf(header, 'header'), trust.keys);
  const input = Buffer.from(`${header}.${payload}`, 'ascii');
  if (!verified(input, bytesOf(signature, 'signature'), algorithm, key))
    refuse('its signature does not hold');
  const claims = objectOf(payload, 'payload');
  checkTimes(claims, trust.nowMs / 1000);
  checkAudience(claims.aud, audience);
  return { spiffeId: subjectOf(claims.sub, trust.trustDomain), claims };
}

/** Header members besides these would change what the token means to others (JWT-SVID §2). */
function keyOf(header: Members, keys: JwtTrust['keys']): { algorithm: Algorithm; key: KeyObject } {
  const { alg, kid, typ, ...others } = header;
  if (Object.keys(others).length > 0) refuse('its header has members besides alg, kid and typ');
  if (typeof alg !== 'string' || !Object.hasOwn(algorithms, alg)) refuse('its alg is not accepted');
  if (typ !== undefined && typ !== 'JWT' && typ !== 'JOSE') refuse('its typ is neither JWT nor JOSE');
  if (typeof kid !== 'string' || kid === '') refuse('it has no kid');
  const [jwk, another] = keys.filter((one) => one.use === 'jwt-svid' && one.kid === kid);
  if (!jwk || another) refuse('no key of its trust domain is its kid');
  if (jwk.alg !== undefined && jwk.alg !== alg) refuse('its key is for another alg');
  const algorithm = algorithms[alg as keyof typeof algorithms];
  return { algorithm, key: publicKeyOf(jwk, algorithm) };
}

/** A key of the type that the algorithm has, whatever its JWK says besides. */
function publicKeyOf({ kty, crv, x, y, n, e }: Members, algorithm: Algorithm): KeyObject {
  const isEc = 'curve' in algorithm;
  const jwk = isEc ? { kty, crv, x, y } : { kty, n, e };
  try {
    const key = createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
    const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
    const fits = isEc
      ? namedCurve === algorithm.curve
      : key.asymmetricKeyType === 'rsa' && modulusLength >= rsaLeastBits;
    if (fits) return key;
  } catch {
    // No key at all; said below.
  }
  return refuse('its key does not go with its alg');
}

/** PSS with a salt as long as the hash (RFC 7518 §3.5), ECDSA as r ‖ s (§3.4). */
function verified(input: Buffer, signature: Buffer, algorithm: Algorithm, key: KeyObject): boolean {
  const how =
    'curve' in algorithm
      ? ({ dsaEncoding: 'ieee-p1363' } as const)
      : { padding: algorithm.padding, saltLength: constants.RSA_PSS_SALTLEN_DIGEST };
  return verify(algorithm.digest, input, { key, ...how }, signature);
}

function checkTimes({ exp, nbf, iat }: Members, nowSeconds: number): void {
  if (typeof exp !== 'number' || !Number.isFinite(exp)) refuse('it has no exp');
  if (exp + skewSeconds <= nowSeconds) refuse('it has expired');
  for (const begin of [nbf, iat]) {
    if (begin !== undefined && typeof begin !== 'number') refuse('its nbf or iat is no time');
    if (begin !== undefined && begin > nowSeconds + skewSeconds) refuse('it is not valid yet');
  }
}

function checkAudience(aud: unknown, audience: string): void {
  const meant: unknown[] = Array.isArray(aud) ? aud : [aud];
  if (meant.some((one) => typeof one !== 'string')) refuse('it is for nobody');
  if (audience === '' || !meant.includes(audience)) refuse('it is for another audience');
}

function subjectOf(sub: unknown, trustDomain: TrustDomain): SpiffeId {
  if (typeof sub !== 'string') refuse('it has no sub');
  let spiffeId: SpiffeId;
  try {
    spiffeId = parseSpiffeId(sub);
  } catch {
    return refuse('its sub is no SPIFFE ID of a workload');
  }
  if (trustDomainOf(spiffeId) !== trustDomain) refuse('it is of another trust domain');
  return spiffeId;
}

type Members = { readonly [member: string]: unknown };

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function objectOf(part: string, what: string): Members {
  const bytes = bytesOf(part, what);
  let value: unknown;
  let isTwofold = false;
  try {
    const text = utf8.decode(bytes);
    value = JSON.parse(text);
    isTwofold = hasDuplicateMembers(text);
  } catch {
    refuse(`its ${what} is not JSON`);
  }
  if (isTwofold) refuse(`its ${what} has a member twice`);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) refuse(`its ${what} is no object`);
  return value as Members;
}

function bytesOf(part: string, what: string): Buffer {
  return decodeBase64Url(part) ?? refuse(`its ${what} is not base64url`);
}

function refuse(why: string): never {
  throw new VouchError('denied-evidence', `the JWT-SVID is not valid: ${why}`);
}
