import { createPublicKey, hash, type KeyObject, verify } from 'node:crypto';
import { assert, VouchError } from '../core/errors.ts';
import { decodeBase64 } from './base64.ts';
import type { Checkpoint } from './checkpoint.ts';
import { emptyRoot, hashBytes } from './merkle.ts';

/** Signature algorithms of log keys: C2SP signed-note types 0x01 and 0x02. */
export type LogKeyAlgorithm = 'ed25519' | 'ecdsa-p256';

/** The public key of a log. */
export interface LogKey {
  /** The key's name, which is the log's origin. */
  readonly name: string;
  readonly algorithm: LogKeyAlgorithm;
  /** DER SubjectPublicKeyInfo in its one encoding: named curve, uncompressed point. */
  readonly publicKeySpki: Buffer;
}

/** Longest note that is read; C2SP asks for room for 16 signatures of nearly 5 KB. */
export const noteMaxBytes = 131_072;

const signaturesMax = 64;
const nameMaxLength = 512;
const keyTypes = {
  ed25519: { code: 0x01, spkiPrefix: Buffer.from('302a300506032b6570032100', 'hex'), keyBytes: 32 },
  'ecdsa-p256': {
    code: 0x02,
    spkiPrefix: Buffer.from('3059301306072a8648ce3d020106082a8648ce3d03010703420004', 'hex'),
    keyBytes: 64,
  },
} as const satisfies Record<LogKeyAlgorithm, { code: number; spkiPrefix: Buffer; keyBytes: number }>;

/** The four bytes that name a key in a note: of SHA-256 over name and key (Ed25519) or over the SPKI (ECDSA). */
export function noteKeyHash(key: LogKey): Buffer {
  const input =
    key.algorithm === 'ed25519'
      ? Buffer.concat([Buffer.from(`${key.name}\n`), keyMaterial(key)])
      : key.publicKeySpki;
  return hash('sha256', input, 'buffer').subarray(0, 4);
}

/** The verifier key, as other tlog tools take it: `name+hash+base64(type ‖ key)`. */
export function verifierKey(key: LogKey): string {
  return `${key.name}+${noteKeyHash(key).toString('hex')}+${keyMaterial(key).toString('base64')}`;
}

/** Parses a verifier key: one encoding only, hash checked, point on the curve. Throws `integrity-log`. */
export function parseVerifierKey(vkey: string): LogKey {
  const [, name = '', keyHash = '', encoded = ''] =
    /^([^+]*)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]{1,200})$/.exec(vkey) ?? [];
  const material = decodeBase64(encoded);
  if (!isKeyName(name) || !material) refuse('log key is not of the form name+hash+base64');
  const key = logKeyOf(name, material);
  if (noteKeyHash(key).toString('hex') !== keyHash) refuse('log key does not match its own hash');
  openedKey(key);
  return key;
}

/** Text of a checkpoint that the log key signs: `origin\nsize\nbase64 of the root\n` (C2SP tlog-checkpoint). */
export function checkpointBody(head: { origin: string; treeSize: number; rootHash: Buffer }): string {
  assert(isOrigin(head.origin), 'origin of one line');
  assert(Number.isSafeInteger(head.treeSize) && head.treeSize >= 0, 'tree size');
  assert(head.rootHash.length === hashBytes, 'root hash of 32 bytes');
  return `${head.origin}\n${head.treeSize}\n${head.rootHash.toString('base64')}\n`;
}

/** A signed note: the text, an empty line, one line for each signature (C2SP signed-note). */
export function assembleNote(
  body: string,
  signatures: readonly { key: LogKey; signature: Buffer }[],
): string {
  assert(body.endsWith('\n') && signatures.length > 0, 'note text that ends its line, and a signature');
  const lines = signatures.map(({ key, signature }) => {
    assert(isKeyName(key.name), 'key name without white space and plus');
    return `— ${key.name} ${Buffer.concat([noteKeyHash(key), signature]).toString('base64')}\n`;
  });
  return `${body}\n${lines.join('')}`;
}

/**
 * Opens a checkpoint: strict text of three lines, bounded; every signature by one of `keys` must verify and one of
 * them must be by the key whose name is the origin; unknown keys are ignored. With `origin` no other log's is taken.
 * Signatures: Ed25519 raw 64 bytes; ECDSA in DER over SHA-256. Throws `integrity-log`.
 */
export function openCheckpoint(note: string, keys: readonly LogKey[], origin?: string): Checkpoint {
  const { body, signatures } = splitNote(note);
  const head = parseBody(body);
  if (origin !== undefined && head.origin !== origin) refuse('checkpoint belongs to another log');
  let signedByLog = false;
  const seen = new Set<LogKey>();
  for (const { name, signature } of signatures) {
    const key = keys.find(
      (known) => known.name === name && openedKey(known).keyHash.equals(signature.subarray(0, 4)),
    );
    if (!key) continue;
    if (seen.has(key)) refuse('checkpoint carries two signatures by one key');
    seen.add(key);
    if (!verifyText(key, body, signature.subarray(4))) refuse('checkpoint has a wrong signature');
    if (key.name === head.origin) signedByLog = true;
  }
  if (!signedByLog) refuse('checkpoint is not signed by a known key of its log');
  return { ...head, note };
}

function splitNote(note: string): { body: string; signatures: { name: string; signature: Buffer }[] } {
  // Control characters are those below U+0020 but the newline (C2SP signed-note).
  const isText = note.length <= noteMaxBytes && note.isWellFormed() && !/[\0-\x09\x0b-\x1f]/.test(note);
  const gap = note.lastIndexOf('\n\n');
  if (!isText || gap < 0 || !note.endsWith('\n')) refuse('checkpoint is not a signed note');
  const lines = note.slice(gap + 2, -1).split('\n', signaturesMax + 1);
  if (lines.length > signaturesMax) refuse(`checkpoint has more than ${signaturesMax} signatures`);
  return { body: note.slice(0, gap + 1), signatures: lines.map(parseSignatureLine) };
}

function parseSignatureLine(line: string): { name: string; signature: Buffer } {
  const [dash, name = '', encoded = '', ...rest] = line.split(' ', 4);
  const signature = decodeBase64(encoded);
  if (dash !== '—' || rest.length > 0 || !isKeyName(name) || !signature || signature.length < 5)
    refuse('checkpoint has a malformed signature line');
  return { name, signature };
}

function parseBody(body: string): { origin: string; treeSize: number; rootHash: Buffer } {
  const [origin = '', size = '', root = '', ...rest] = body.split('\n', 5);
  const treeSize = /^(?:0|[1-9][0-9]{0,15})$/.test(size) ? Number(size) : Number.NaN;
  const rootHash = decodeBase64(root);
  // Extension lines are allowed by C2SP, not recommended, and never written by this log: they could hide anything.
  if (rest.length !== 1 || rest[0] !== '' || !isOrigin(origin)) refuse('checkpoint text is not three lines');
  if (!Number.isSafeInteger(treeSize)) refuse('checkpoint has a malformed tree size');
  if (rootHash?.length !== hashBytes) refuse('checkpoint has a malformed root hash');
  if (treeSize === 0 && !rootHash.equals(emptyRoot))
    refuse('checkpoint of the empty tree has a wrong root hash');
  return { origin, treeSize, rootHash };
}

function verifyText(key: LogKey, text: string, signature: Buffer): boolean {
  const digest = key.algorithm === 'ed25519' ? null : 'sha256';
  return verify(digest, Buffer.from(text, 'utf8'), openedKey(key).publicKey, signature);
}

/** Type byte and key as they stand in a verifier key. */
function keyMaterial(key: LogKey): Buffer {
  const { code, spkiPrefix } = keyTypes[key.algorithm];
  const encoded =
    key.algorithm === 'ed25519' ? key.publicKeySpki.subarray(spkiPrefix.length) : key.publicKeySpki;
  return Buffer.concat([Buffer.from([code]), encoded]);
}

function logKeyOf(name: string, material: Buffer): LogKey {
  const encoded = material.subarray(1);
  if (material[0] === keyTypes.ed25519.code)
    return {
      name,
      algorithm: 'ed25519',
      publicKeySpki: Buffer.concat([keyTypes.ed25519.spkiPrefix, encoded]),
    };
  if (material[0] === keyTypes['ecdsa-p256'].code)
    return { name, algorithm: 'ecdsa-p256', publicKeySpki: encoded };
  return refuse('log key is of a type that this version does not know; use Ed25519 or ECDSA P-256');
}

interface OpenedKey {
  keyHash: Buffer;
  publicKey: KeyObject;
}

/** Importing a key costs as much as a verification, and the same few verify every checkpoint. */
const opened = new WeakMap<LogKey, OpenedKey>();

function openedKey(key: LogKey): OpenedKey {
  const known = opened.get(key);
  if (known) return known;
  const { spkiPrefix, keyBytes } = keyTypes[key.algorithm];
  const spki = key.publicKeySpki;
  if (spki.length !== spkiPrefix.length + keyBytes || !spki.subarray(0, spkiPrefix.length).equals(spkiPrefix))
    refuse('log key is not an Ed25519 or P-256 key in its one encoding');
  const made = { keyHash: noteKeyHash(key), publicKey: importKey(spki) };
  opened.set(key, made);
  return made;
}

function importKey(spki: Buffer): KeyObject {
  try {
    return createPublicKey({ key: spki, format: 'der', type: 'spki' });
  } catch (cause) {
    throw new VouchError('integrity-log', 'log key is not a valid public key', { cause });
  }
}

function isKeyName(name: string): boolean {
  return (
    name.length > 0 &&
    name.length <= nameMaxLength &&
    name.isWellFormed() &&
    !/[\s\u0085+\0-\x1f]/u.test(name)
  );
}

function isOrigin(origin: string): boolean {
  return origin.length > 0 && origin.length <= nameMaxLength && !/[\0-\x1f]/.test(origin);
}

function refuse(detail: string): never {
  throw new VouchError('integrity-log', detail);
}
