import { readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { canonicalJson } from '../core/canonical-json.ts';
import { VouchError } from '../core/errors.ts';
import { parseTrustDomain, type TrustDomain } from '../core/spiffe-id.ts';
import type { LogKeyAlgorithm } from '../log/note.ts';
import type { SignatureAlgorithm } from '../x509/algorithm.ts';
import type { HsmKey } from './hsm.ts';

/** A key of the token: where it is and what its public half must be. */
export interface AuthorityKey {
  /** As in `HsmKey`. */
  ckaId: string;
  algorithm: SignatureAlgorithm;
}

/** An issuer that this signer signs for. */
export interface AuthorityIssuer extends AuthorityKey {
  keyId: string;
  certificateDer: Buffer;
}

/** Bounds on what is signed, whatever the server asks. */
export interface SigningLimits {
  /** Longest time from signing to a certificate's notAfter. */
  maxCertificateSeconds: number;
  /** How far before now a notBefore may lie. */
  backdateSeconds: number;
  /** Longest time from a CRL's thisUpdate to its nextUpdate. */
  maxCrlSeconds: number;
  /** How far ahead of this process's clock a notBefore may lie. */
  maxFutureSeconds: number;
}

/** Where the second mark against rewinding is kept: a data object in the token, or a file elsewhere. */
export type RollbackMark = 'token' | { file: string };

/** A log key of another token, which this one knows by its public half. */
export interface PublicLogKey {
  algorithm: LogKeyAlgorithm;
  publicKeySpki: Buffer;
}

/** The key that signs JWT-SVIDs, and for how long after `iat` at most. */
export interface AuthorityJwtKey extends HsmKey {
  maxSeconds: number;
}

/** What this signer is for; `<state>/signer/authority.json`, written by `vouch init`. */
export interface SignerAuthority {
  trustDomain: TrustDomain;
  logOrigin: string;
  logKey: { ckaId: string; algorithm: LogKeyAlgorithm; publicKeySpki: Buffer };
  /** The log's keys in other tokens: a tree whose checkpoint one of them signed is taken up, too. */
  otherLogKeys?: readonly PublicLogKey[];
  /** Signs OCSP answers and nothing else; made by `vouch signer --make-ocsp-key`. */
  ocspKey?: HsmKey;
  /** Signs JWT-SVIDs and nothing else, P-256; made by `vouch init` or `vouch signer --make-jwt-key`. */
  jwtKey?: AuthorityJwtKey;
  issuers: readonly AuthorityIssuer[];
  limits: SigningLimits;
  rollbackMark: RollbackMark;
}

/** The file's text: canonical JSON and a line end. */
export function encodeAuthority(authority: SignerAuthority): string {
  const { logKey, limits, otherLogKeys = [], ocspKey, jwtKey } = authority;
  return `${canonicalJson({
    version: 1,
    trustDomain: authority.trustDomain,
    logOrigin: authority.logOrigin,
    logKey: encodeKey(logKey),
    ...(otherLogKeys.length > 0
      ? {
          otherLogKeys: otherLogKeys.map(encodeLogKey),
        }
      : {}),
    ...(ocspKey ? { ocspKey: encodeKey(ocspKey) } : {}),
    ...(jwtKey ? { jwtKey: { ...encodeKey(jwtKey), maxSeconds: jwtKey.maxSeconds } } : {}),
    issuers: authority.issuers.map(({ certificateDer, ...issuer }) => ({
      ...issuer,
      certificate: certificateDer.toString('base64'),
    })),
    limits: { ...limits },
    rollbackMark: authority.rollbackMark,
  })}\n`;
}

function encodeLogKey({ algorithm, publicKeySpki }: PublicLogKey) {
  return { algorithm, publicKeySpki: publicKeySpki.toString('base64') };
}

function encodeKey({ ckaId, algorithm, publicKeySpki }: HsmKey | SignerAuthority['logKey']) {
  return { ckaId, algorithm, publicKeySpki: publicKeySpki.toString('base64') };
}

/**
 * Reads the file. Throws `config-state` when it is missing or malformed, or when others can write or exchange it: they
 * would say what this process signs.
 */
export function readAuthority(file: string): SignerAuthority {
  let text: string;
  try {
    refuseWritable(file, 'chmod 600');
    refuseWritable(dirname(file), 'chmod 700');
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if (error instanceof VouchError) throw error;
    throw new VouchError('config-state', `cannot read ${file}; only \`vouch init\` makes it`, {
      cause: error,
    });
  }
  return parseAuthority(text, file);
}

function refuseWritable(path: string, remedy: string): void {
  const { mode, uid } = statSync(path);
  if ((mode & 0o022) !== 0)
    throw new VouchError('config-state', `${path} can be written by others; run: ${remedy} ${path}`);
  const own = process.getuid?.();
  // Root can be told from nobody by the owner of a file, and is who puts states back.
  if (own !== 0 && uid !== 0 && uid !== own)
    throw new VouchError(
      'config-state',
      `${path} belongs to uid ${uid}, who can exchange it; as root: chown ${own} ${path}`,
    );
}

/** Parses the file's text, refusing unknown members. Throws `config-state` naming `file`. */
export function parseAuthority(text: string, file: string): SignerAuthority {
  try {
    const top = members(JSON.parse(text), authorityMembers, ['otherLogKeys', 'ocspKey', 'jwtKey']);
    if (top.version !== 1) throw new Error('version is not 1');
    const logKey = members(top.logKey, ['ckaId', 'algorithm', 'publicKeySpki']);
    if (!Array.isArray(top.issuers) || top.issuers.length > 64) throw new Error('issuers');
    return {
      trustDomain: parseTrustDomain(texted(top.trustDomain, /^.+$/)),
      logOrigin: texted(top.logOrigin, /^[^\s+]{1,512}$/),
      logKey: {
        ckaId: texted(logKey.ckaId, ckaIdGrammar),
        algorithm: oneOf(logKey.algorithm, logKeyAlgorithms),
        publicKeySpki: decoded(logKey.publicKeySpki),
      },
      ...(top.otherLogKeys === undefined ? {} : { otherLogKeys: parseLogKeys(top.otherLogKeys) }),
      ...(top.ocspKey === undefined ? {} : { ocspKey: parseOcspKey(top.ocspKey) }),
      ...(top.jwtKey === undefined ? {} : { jwtKey: parseJwtKey(top.jwtKey) }),
      issuers: top.issuers.map(parseIssuer),
      limits: parseLimits(top.limits),
      rollbackMark: parseMark(top.rollbackMark),
    };
  } catch (cause) {
    throw new VouchError('config-state', `${file} is malformed; restore it from a backup`, { cause });
  }
}

const authorityMembers = [
  'version',
  'trustDomain',
  'logOrigin',
  'logKey',
  'issuers',
  'limits',
  'rollbackMark',
] as const;
const ckaIdGrammar = /^(?:(?:[0-9a-f]{2}){1,64}|label:\P{Cc}{1,255})$/u;
const algorithms = [
  'ecdsa-sha256',
  'ecdsa-sha384',
  'rsa-pkcs1-sha256',
  'rsa-pss-sha256',
  'ed25519',
] as const satisfies SignatureAlgorithm[];

const logKeyAlgorithms = ['ed25519', 'ecdsa-p256'] as const satisfies LogKeyAlgorithm[];

function parseLogKeys(value: unknown): PublicLogKey[] {
  if (!Array.isArray(value) || value.length === 0 || value.length > 15) throw new Error('otherLogKeys');
  return value.map((one) => {
    const key = members(one, ['algorithm', 'publicKeySpki']);
    return {
      algorithm: oneOf(key.algorithm, logKeyAlgorithms),
      publicKeySpki: decoded(key.publicKeySpki),
    };
  });
}

function parseOcspKey(value: unknown): HsmKey {
  const key = members(value, ['ckaId', 'algorithm', 'publicKeySpki']);
  return {
    ckaId: texted(key.ckaId, ckaIdGrammar),
    algorithm: oneOf(key.algorithm, algorithms),
    publicKeySpki: decoded(key.publicKeySpki),
  };
}

function parseJwtKey(value: unknown): AuthorityJwtKey {
  const { maxSeconds, ...key } = members(value, ['ckaId', 'algorithm', 'publicKeySpki', 'maxSeconds']);
  const parsed = { ...parseOcspKey(key), maxSeconds: secondsOf(maxSeconds) };
  if (parsed.algorithm !== 'ecdsa-sha256') throw new Error('JWT-SVIDs are signed with P-256');
  return parsed;
}

function parseIssuer(value: unknown): AuthorityIssuer {
  const issuer = members(value, ['keyId', 'ckaId', 'algorithm', 'certificate']);
  return {
    keyId: texted(issuer.keyId, /^[0-9a-f]{40}$/),
    ckaId: texted(issuer.ckaId, ckaIdGrammar),
    algorithm: oneOf(issuer.algorithm, algorithms),
    certificateDer: decoded(issuer.certificate),
  };
}

function parseLimits(value: unknown): SigningLimits {
  const names = ['maxCertificateSeconds', 'backdateSeconds', 'maxCrlSeconds', 'maxFutureSeconds'] as const;
  const limits = members(value, names);
  return {
    maxCertificateSeconds: secondsOf(limits.maxCertificateSeconds),
    backdateSeconds: secondsOf(limits.backdateSeconds),
    maxCrlSeconds: secondsOf(limits.maxCrlSeconds),
    maxFutureSeconds: secondsOf(limits.maxFutureSeconds),
  };
}

function secondsOf(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw new Error('no seconds');
  return value;
}

function parseMark(value: unknown): RollbackMark {
  if (value === 'token') return value;
  return { file: texted(members(value, ['file']).file, /^\/./) };
}

function members<Name extends string, Optional extends string = never>(
  value: unknown,
  names: readonly Name[],
  optional: readonly Optional[] = [],
): Record<Name | Optional, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw new Error('not an object');
  const isOptional = (name: string): boolean => optional.some((one) => one === name);
  const found = Object.keys(value)
    .filter((name) => !isOptional(name))
    .sort()
    .join();
  if (found !== [...names].sort().join()) throw new Error(`members are ${found}`);
  return value as Record<Name | Optional, unknown>;
}

function texted(value: unknown, grammar: RegExp): string {
  if (typeof value !== 'string' || !grammar.test(value)) throw new Error(`not of the form ${grammar.source}`);
  return value;
}

function oneOf<Value extends string>(value: unknown, values: readonly Value[]): Value {
  const found = values.find((one) => one === value);
  if (found === undefined) throw new Error(`not one of ${values.join()}`);
  return found;
}

function decoded(value: unknown): Buffer {
  const bytes = Buffer.from(texted(value, /^[A-Za-z0-9+/]+=*$/), 'base64');
  if (bytes.toString('base64') !== value) throw new Error('not base64');
  return bytes;
}
