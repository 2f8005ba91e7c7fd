import { constants, hash, type KeyObject, verify } from 'node:crypto';
import { canonicalJson, type Json } from '../core/canonical-json.ts';
import { rfc3339 } from '../core/clock.ts';
import { assert, VouchError } from '../core/errors.ts';
import { parseTrustDomain, type TrustDomain } from '../core/spiffe-id.ts';
import { decodeBase64Url } from './base64.ts';
import { type LogKey, noteKeyHash, parseVerifierKey, verifierKey } from './note.ts';

/** What the root vouches for. A reader refuses a sequence lower than one it has seen (I9). */
export interface Statement {
  trustDomain: TrustDomain;
  /** Rises with each statement; from 0. */
  sequence: number;
  /** Unix milliseconds of a whole second, inclusive. */
  notAfterMs: number;
  /** 1 to 16. */
  logKeys: LogKey[];
  /** Base URLs, http or https, at most 16. */
  publicationUrls: string[];
  /** Key ids of the issuers, 1 to 16, where there is more than one; absent: whichever the root certified. */
  issuers?: string[];
}

/** JWS algorithms of a root: RFC 7518 §3.1, RFC 8037 §3.1. */
export type StatementAlgorithm = 'ES256' | 'ES384' | 'RS256' | 'PS256' | 'EdDSA';

const typ = 'vouch-statement+jwt';
/** Longest compact JWS that is read. */
export const statementMaxBytes = 65_536;
const listMax = 16;
const urlMaxLength = 2048;

/** How each is verified; a salt of PS256 is as long as its hash (RFC 7518 §3.5). */
const verifiers: Readonly<
  Record<StatementAlgorithm, (key: KeyObject, data: Buffer, signature: Buffer) => boolean>
> = {
  ES256: (key, data, signature) => verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, signature),
  ES384: (key, data, signature) => verify('sha384', data, { key, dsaEncoding: 'ieee-p1363' }, signature),
  RS256: (key, data, signature) =>
    verify('sha256', data, { key, padding: constants.RSA_PKCS1_PADDING }, signature),
  PS256: (key, data, signature) =>
    verify('sha256', data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }, signature),
  EdDSA: (key, data, signature) => verify(null, data, key, signature),
};

/** What the root signs: `base64url(header).base64url(payload)`, both canonical JSON (RFC 7515 §5.1). Throws `integrity-log` for what readers would refuse. */
export function statementSigningInput(
  statement: Statement,
  rootKeyId: string,
  alg: StatementAlgorithm,
): string {
  assert(/^[0-9a-f]{40}$/.test(rootKeyId), 'root key id of 40 hex');
  const payload = {
    trustDomain: statement.trustDomain,
    sequence: statement.sequence,
    notAfter: rfc3339(statement.notAfterMs),
    logKeys: statement.logKeys.map(verifierKey),
    publicationUrls: statement.publicationUrls,
    ...(statement.issuers ? { issuers: statement.issuers } : {}),
  };
  parsePayload(payload); // what readers refuse is not signed
  return `${encode({ alg, kid: rootKeyId, typ })}.${encode(payload)}`;
}

/** The compact JWS of a signing input and its signature (ECDSA: r ‖ s). */
export function assembleStatement(signingInput: string, signature: Buffer): string {
  return `${signingInput}.${signature.toString('base64url')}`;
}

/**
 * Opens a statement signed by the root: the algorithm is one of its key's, never just what the header says; only for an
 * RSA key does the header choose, between PKCS#1 v1.5 and PSS. One encoding of everything; unknown members refused.
 * Expiry is the caller's check. Throws `integrity-log`.
 */
export function openStatement(jws: string, rootPublicKey: KeyObject): Statement {
  if (jws.length > statementMaxBytes) refuse('statement is longer than 65,536 bytes');
  const { algorithms, keyBytes } = rootKeyOf(rootPublicKey);
  const parts = jws.split('.', 4);
  const [header = '', payload = '', signatureText = ''] = parts;
  const signature = decodeBase64Url(signatureText);
  if (parts.length !== 3 || !signature) refuse('statement is not a compact JWS');
  // RFC 7093 method 1: leftmost 160 bits of SHA-256 over the content of the SPKI's BIT STRING.
  const kid = hash('sha256', keyBytes, 'hex').slice(0, 40);
  const alg = algorithms.find((one) => header === encode({ alg: one, kid, typ }));
  if (alg === undefined)
    return refuse('statement was not made by this root: its header names another key, algorithm or type');
  if (!verifiers[alg](rootPublicKey, Buffer.from(`${header}.${payload}`, 'ascii'), signature))
    refuse('statement has a wrong signature');
  return parsePayload(decodePayload(payload));
}

/** What a root's key may sign with, and the content of its SPKI's BIT STRING. */
function rootKeyOf(key: KeyObject): { algorithms: readonly StatementAlgorithm[]; keyBytes: Buffer } {
  assert(key.type === 'public', 'public key of the root');
  const { namedCurve, modulusLength = 0 } = key.asymmetricKeyDetails ?? {};
  const lastBytes = (count: number): Buffer => key.export({ format: 'der', type: 'spki' }).subarray(-count);
  switch (key.asymmetricKeyType) {
    case 'ec':
      if (namedCurve === 'prime256v1') return { algorithms: ['ES256'], keyBytes: lastBytes(65) };
      if (namedCurve === 'secp384r1') return { algorithms: ['ES384'], keyBytes: lastBytes(97) };
      break;
    case 'ed25519':
      return { algorithms: ['EdDSA'], keyBytes: lastBytes(32) };
    case 'rsa':
      if (modulusLength >= 2048)
        return { algorithms: ['RS256', 'PS256'], keyBytes: key.export({ format: 'der', type: 'pkcs1' }) };
      break;
    default:
  }
  return refuse('statement needs a root with a P-256, P-384, Ed25519 or RSA key of 2048 bits or more');
}

function decodePayload(payload: string): unknown {
  const text = decodeBase64Url(payload)?.toString('utf8');
  try {
    const value = JSON.parse(text ?? '') as Json;
    // One encoding only: a repeated member, which parsers resolve differently, does not survive this.
    if (encode(value) === payload) return value;
  } catch (cause) {
    throw new VouchError('integrity-log', 'statement payload is not JSON', { cause });
  }
  return refuse('statement payload is not canonical JSON');
}

function parsePayload(value: unknown): Statement {
  const members = value as Record<string, unknown>;
  const isShaped =
    typeof value === 'object' &&
    value !== null &&
    Object.keys(members)
      .filter((name) => name !== 'issuers')
      .sort()
      .join() === 'logKeys,notAfter,publicationUrls,sequence,trustDomain';
  if (!isShaped) refuse('statement payload has missing or unknown members');
  const { trustDomain, sequence, notAfter, logKeys, publicationUrls, issuers } = members;
  if (typeof sequence !== 'number' || !Number.isSafeInteger(sequence) || sequence < 0)
    refuse('statement has a malformed sequence');
  return {
    trustDomain: trustDomainOf(trustDomain),
    sequence,
    notAfterMs: timeOf(notAfter),
    logKeys: logKeysOf(logKeys),
    publicationUrls: urlsOf(publicationUrls),
    ...(issuers === undefined ? {} : { issuers: issuersOf(issuers) }),
  };
}

function trustDomainOf(value: unknown): TrustDomain {
  try {
    if (typeof value === 'string') return parseTrustDomain(value);
  } catch (cause) {
    throw new VouchError('integrity-log', 'statement has a malformed trust domain', { cause });
  }
  return refuse('statement has a malformed trust domain');
}

function timeOf(value: unknown): number {
  const timeMs = typeof value === 'string' && value.length === 20 ? Date.parse(value) : Number.NaN;
  if (!Number.isSafeInteger(timeMs) || rfc3339(timeMs) !== value)
    refuse('statement has a malformed notAfter');
  return timeMs;
}

function logKeysOf(value: unknown): LogKey[] {
  const keys = textsOf(value, 'log keys').map(parseVerifierKey);
  const names = new Set(keys.map((key) => `${key.name}+${noteKeyHash(key).toString('hex')}`));
  if (keys.length === 0 || names.size !== keys.length) refuse('statement has no log key, or one twice');
  return keys;
}

function urlsOf(value: unknown): string[] {
  const urls = textsOf(value, 'publication URLs');
  if (
    !urls.every((url) => url.length <= urlMaxLength && /^https?:\/\/[!-~]+$/.test(url) && URL.canParse(url))
  )
    refuse('statement has a publication URL that is not http or https');
  return urls;
}

function issuersOf(value: unknown): string[] {
  const keyIds = textsOf(value, 'issuers');
  const isList = keyIds.length > 0 && new Set(keyIds).size === keyIds.length;
  if (!isList || !keyIds.every((keyId) => /^[0-9a-f]{40}$/.test(keyId)))
    refuse('statement has malformed issuers');
  return keyIds;
}

function textsOf(value: unknown, what: string): string[] {
  if (!Array.isArray(value) || value.length > listMax) refuse(`statement has malformed ${what}`);
  return value.map((item: unknown) =>
    typeof item === 'string' ? item : refuse(`statement has malformed ${what}`),
  );
}

function encode(value: Json): string {
  return Buffer.from(canonicalJson(value), 'utf8').toString('base64url');
}

function refuse(detail: string): never {
  throw new VouchError('integrity-log', detail);
}
