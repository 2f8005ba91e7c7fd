import type { JwtKeyRecord } from '../store/records.ts';
import type { BundleJson } from '../wire/enrollment.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { encodePem } from '../x509/pem.ts';
import { importPublicKey } from '../x509/public-key.ts';
import { type Discovery, discoveryOf } from './discovery.ts';

/** The trust bundle as it is served: whom to trust, and the root's statement about its log. */
export interface Bundle {
  json: BundleJson;
  /** UTF-8 of `json`. */
  jsonBytes: Buffer;
  /** PEM of the roots. */
  pem: string;
  /** Rises with every change. */
  sequence: number;
  /** Those that count: one for each token that has one. */
  jwtKeys: readonly JwtKeyRecord[];
  /** The same keys for OpenID Connect. */
  discovery: Discovery;
}

/** What a bundle is made of. */
export interface BundleParts {
  rootCertificates: readonly Buffer[];
  /** The root's newest, a compact JWS, and its sequence. */
  statement: string;
  statementSequence: number;
  /** All that there ever were, oldest first. */
  jwtKeys: readonly JwtKeyRecord[];
  /** `iss` of JWT-SVIDs. */
  tokenIssuer: string;
}

/** How often readers should look for a new bundle. */
const refreshHintSeconds = 300;

/**
 * A SPIFFE bundle (Trust Domain and Bundle §4): one JWK with `use` x509-svid and one x5c for each root, no `kid`; one with
 * `use` jwt-svid and `kid` for each key that signs JWT-SVIDs; `vouch_statement` beside them. What changes is a new
 * statement or one more key: its sequence is that of the statement and how many keys there have been.
 */
export function bundleOf(parts: BundleParts): Bundle {
  const { rootCertificates, statement, statementSequence, tokenIssuer } = parts;
  const jwtKeys = [...new Map(parts.jwtKeys.map((key) => [key.issuerKeyId, key])).values()];
  const sequence = statementSequence + parts.jwtKeys.length;
  const published = jwtKeys.map(({ keyId, publicKeySpki }) => ({ ...jwkOf(publicKeySpki), kid: keyId }));
  const json: BundleJson = {
    keys: [...rootCertificates.map(rootJwk), ...published.map((jwk) => ({ ...jwk, use: 'jwt-svid' }))],
    spiffe_sequence: sequence,
    spiffe_refresh_hint: refreshHintSeconds,
    vouch_statement: statement,
  };
  return {
    json,
    jsonBytes: Buffer.from(JSON.stringify(json)),
    pem: rootCertificates.map((der) => encodePem('CERTIFICATE', der)).join(''),
    sequence,
    jwtKeys,
    discovery: discoveryOf(tokenIssuer, published),
  };
}

/** The pin of a root: SHA-256 of its SubjectPublicKeyInfo, as join files carry it. */
export function rootPin(rootCertificate: Buffer): string {
  return `sha256:${importPublicKey(parseCertificate(rootCertificate).spki).sha256}`;
}

function rootJwk(certificateDer: Buffer): BundleJson['keys'][number] {
  const jwk = jwkOf(parseCertificate(certificateDer).spki);
  return { ...jwk, use: 'x509-svid', x5c: [certificateDer.toString('base64')] };
}

function jwkOf(spki: Buffer): { kty: string } {
  const jwk = importPublicKey(spki).key.export({ format: 'jwk' });
  return { ...jwk, kty: jwk.kty ?? 'EC' };
}
