import { canonicalJson } from '../core/canonical-json.ts';
import { CrlNumbers } from './crl-numbers.ts';

/** Which log a mark is of: a log that was begun anew under the same origin has another key. */
export interface LogIdentity {
  origin: string;
  /** SHA-256 of the log key's SubjectPublicKeyInfo, hex. */
  logKeySha256: string;
}

/** A state that this signer will not go behind (I11): how large the tree was, its root, the CRL numbers in use. */
export interface Mark extends LogIdentity {
  treeSize: number;
  /** 32 bytes: the root at exactly `treeSize`. */
  rootHash: Buffer;
  crlNumbers: CrlNumbers;
}

/** The mark kept in the token or another place; the highest sequence is the newest. */
export interface GuardMark extends Mark {
  sequence: number;
}

/** True where both are of the same log. */
export function sameLog(a: LogIdentity, b: LogIdentity): boolean {
  return a.origin === b.origin && a.logKeySha256 === b.logKeySha256;
}

/** Text of `floor.json`: canonical JSON and a line end. */
export function encodeFloor(mark: Mark): string {
  return `${canonicalJson({ ...common(mark), crlNumbers: mark.crlNumbers.toJson() })}\n`;
}

/** Value of a guard object: canonical JSON, UTF-8; of the CRL numbers only the highest of each issuer. */
export function encodeGuard(mark: GuardMark): Buffer {
  const crlNumbers = mark.crlNumbers.highestToJson();
  return Buffer.from(canonicalJson({ ...common(mark), crlNumbers, sequence: mark.sequence }), 'utf8');
}

/** Reads `floor.json`; undefined where it is malformed. */
export function parseFloor(text: string): Mark | undefined {
  return parsed(text)?.mark;
}

/** Reads a guard; undefined where it is malformed, as a power cut can leave one. */
export function parseGuard(value: Buffer): GuardMark | undefined {
  const found = parsed(value.toString('utf8'));
  if (!found) return undefined;
  const { sequence } = found.members;
  return isCount(sequence) ? { ...found.mark, sequence } : undefined;
}

function common({ origin, logKeySha256, treeSize, rootHash }: Mark) {
  return { version: 1, origin, logKeySha256, treeSize, rootHash: rootHash.toString('hex') };
}

function parsed(text: string): { mark: Mark; members: Record<string, unknown> } | undefined {
  try {
    const members = JSON.parse(text) as Record<string, unknown>;
    const { version, origin, logKeySha256, treeSize, rootHash } = members;
    if (version !== 1 || typeof origin !== 'string' || !isCount(treeSize)) return undefined;
    if (!isSha256(rootHash) || !isSha256(logKeySha256)) return undefined;
    const crlNumbers = CrlNumbers.parse(members.crlNumbers);
    const mark = { origin, logKeySha256, treeSize, rootHash: Buffer.from(rootHash, 'hex'), crlNumbers };
    return { mark, members };
  } catch {
    return undefined;
  }
}

function isSha256(value: unknown): value is string {
  return typeof value === 'string' && /^[0-9a-f]{64}$/.test(value);
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
