import { createPublicKey } from 'node:crypto';
import { VouchError } from '../core/errors.ts';
import type { LogKey } from '../log/note.ts';
import { logOriginOf, sequenceOfOrigin } from '../log/origin.ts';
import { openStatement, type Statement } from '../log/statement.ts';
import { parseCertificate } from '../x509/certificate.ts';
import { keyIdOf } from '../x509/public-key.ts';
import type { SignerAuthority } from './authority-file.ts';

/** The root's word that a new log begins. */
export interface NewLog {
  /** Compact JWS of the root's statement. */
  statement: string;
  /** DER SubjectPublicKeyInfo of the root. */
  rootSpki: Buffer;
}

/**
 * The authority over the log that the root's statement opens: only the root leads past the marks of the present log,
 * never whoever holds the server (I11). The root is the key that our issuers' certificates name as theirs. A statement
 * that opened the present log, or renews it, changes nothing. Throws `integrity-state` for any other.
 */
export function authorityOverNewLog(
  authority: SignerAuthority,
  { statement: jws, rootSpki }: NewLog,
  nowMs: number,
): SignerAuthority {
  const rootKeyId = keyIdOf(rootSpki);
  const isRoot = authority.issuers.some(
    ({ certificateDer }) => parseCertificate(certificateDer).authorityKeyId === rootKeyId,
  );
  if (__VOUCH_WITHOUT__ !== 'I11' && !isRoot) refuse('another root than that of its issuers signed it');
  const statement = openStatement(jws, createPublicKey({ key: rootSpki, format: 'der', type: 'spki' }));
  const name = nameOfOurLog(authority, statement);
  if (name === authority.logOrigin) return authority;
  // The log of the statement itself, or of the one that it renews.
  const opening = sequenceOfOrigin(name);
  if (__VOUCH_WITHOUT__ !== 'I11' && opening <= sequenceOfOrigin(authority.logOrigin))
    refuse(`a later one opened the present log ${authority.logOrigin}`);
  if (name !== logOriginOf(authority.trustDomain, opening) || statement.sequence < opening)
    refuse('it opens no log');
  if (statement.notAfterMs < nowMs) refuse('it has expired');
  const others = statement.logKeys.filter((key) => !isOurs(authority, key));
  const { otherLogKeys: _before, ...rest } = authority;
  const otherLogKeys = others.map(({ algorithm, publicKeySpki }) => ({ algorithm, publicKeySpki }));
  return { ...rest, logOrigin: name, ...(otherLogKeys.length > 0 ? { otherLogKeys } : {}) };
}

/** All the keys of one log have its name. */
function nameOfOurLog(authority: SignerAuthority, { trustDomain, logKeys }: Statement): string {
  if (trustDomain !== authority.trustDomain) refuse('it is of another trust domain');
  const name = logKeys.find((key) => isOurs(authority, key))?.name;
  if (name === undefined || logKeys.some((key) => key.name !== name)) refuse('it names another log key');
  return name;
}

function isOurs({ logKey }: SignerAuthority, { publicKeySpki }: LogKey): boolean {
  return publicKeySpki.equals(logKey.publicKeySpki);
}

function refuse(why: string): never {
  throw new VouchError('integrity-state', `the signer begins no new log by this statement: ${why}`);
}
