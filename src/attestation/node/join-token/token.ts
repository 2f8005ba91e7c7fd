import { createHash, randomBytes } from 'node:crypto';
import { VouchError } from '../../../core/errors.ts';

/** Fixed start, so that secret scanners find a leaked token. */
const prefix = 'vjt_';
const checksumChars = 6;
/** Prefix, 43 characters of secret, 6 of checksum. */
const grammar = /^vjt_[A-Za-z0-9_-]{49}$/;

/** A fresh join token: `vjt_`, 256 random bits in base64url, six characters of checksum. */
export function newJoinToken(): string {
  const body = prefix + randomBytes(32).toString('base64url');
  return body + checksum(body);
}

/** True for text that has a token's form and checksum: a cheap refusal before any look-up. */
export function isJoinToken(text: string): boolean {
  return grammar.test(text) && text.slice(-checksumChars) === checksum(text.slice(0, -checksumChars));
}

/** The only form in which a token is stored: SHA-256 of its text. 256 bits of entropy need no slow hash. */
export function joinTokenHash(token: string): Buffer {
  if (!isJoinToken(token))
    throw new VouchError(
      'denied-evidence',
      'this is not a whole join token; ask the operator for a new join file',
    );
  return createHash('sha256').update(token, 'utf8').digest();
}

function checksum(body: string): string {
  return createHash('sha256').update(body, 'utf8').digest('base64url').slice(0, checksumChars);
}
