import type { Serial } from './serial.ts';

/** The shard of a serial: its last two bytes modulo the issuer's fixed shard count; uniform since those are random. */
export function shardOf(serial: Serial, shardCount: number): number {
  return Number.parseInt(serial.slice(-4), 16) % shardCount;
}

/** URL of a shard's CRL: the CDP of its certificates and, byte for byte, its IDP (RFC 5280 §5.2.5). */
export function crlShardUrl(publicationUrl: string, issuerKeyId: string, shard: number): string {
  return `${publicationUrl}/crl/${issuerKeyId}/${shard}.crl`;
}

/** URL of the full CRL of an issuer or root. */
export function fullCrlUrl(publicationUrl: string, issuerKeyId: string): string {
  return `${publicationUrl}/crl/${issuerKeyId}.crl`;
}

/** URL of a CRL by its scope: `full`, `delta`, `base`, or a shard's number. */
export function crlUrl(publicationUrl: string, issuerKeyId: string, scope: string): string {
  return scope === 'full'
    ? fullCrlUrl(publicationUrl, issuerKeyId)
    : `${publicationUrl}/crl/${issuerKeyId}/${scope}.crl`;
}

/** What OpenID Connect clients read, below the publication URL and below the token issuer's (Discovery §4). */
export const discoveryPaths = {
  configuration: '/.well-known/openid-configuration',
  jwks: '/.well-known/jwks.json',
} as const;

/** URL of the OCSP responder, for authorityInfoAccess and for POST; a GET puts the request behind it (RFC 6960 A.1). */
export function ocspUrl(publicationUrl: string): string {
  return `${publicationUrl}/ocsp`;
}

/** URL of the CA certificate, for authorityInfoAccess (RFC 5280 §4.2.2.1). */
export function issuerUrl(publicationUrl: string, issuerKeyId: string): string {
  return `${publicationUrl}/ca/${issuerKeyId}.cer`;
}
