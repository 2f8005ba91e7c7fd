import type { KeyObject } from 'node:crypto';
import type { BundleJson } from '../wire/enrollment.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { encodePem } from '../x509/pem.ts';
import { importPublicKey } from '../x509/public-key.ts';

/** The trust bundle as it is served: whom to trust, and the root's statement about its log. */
export interface Bundle {
  json: BundleJson;
  /** UTF-8 of `json`. */
  jsonBytes: Buffer;
  /** PEM of the roots. */
  pem: string;
  /** Rises with every change. */
  sequence: number;
}

/** How often readers should look for a new bundle. */
const refreshHintSeconds = 300;

/**
 * A SPIFFE bundle (Trust Domain and Bundle §4): one JWK with `use` x509-svid and one x5c for each root, no `kid`;
 * `vouch_statement` beside them. `sequence` is that of the statement: both change in ceremonies only.
 */
export function bundleOf(rootCertificates: readonly Buffer[], statement: string, sequence: number): Bundle {
  const json: BundleJson = {
    keys: rootCertificates.map(jwkOf),
    spiffe_sequence: sequence,
    spiffe_refresh_hint: refreshHintSeconds,
    vouch_statement: statement,
  };
  return {
    json,
    jsonBytes: Buffer.from(JSON.stringify(json)),
    pem: rootCertificates.map((der) => encodePem('CERTIFICATE', der)).join(''),
    sequence,
  };
}

/** The pin of a root: SHA-256 of its SubjectPublicKeyInfo, as join files carry it. */
export function rootPin(rootCertificate: Buffer): string {
  return `sha256:${importPublicKey(parseCertificate(rootCertificate).spki).sha256}`;
}

function jwkOf(certificateDer: Buffer): BundleJson['keys'][number] {
  const key: KeyObject = importPublicKey(parseCertificate(certificateDer).spki).key;
  const jwk = key.export({ format: 'jwk' });
  return { ...jwk, kty: jwk.kty ?? 'EC', use: 'x509-svid', x5c: [certificateDer.toString('base64')] };
}
