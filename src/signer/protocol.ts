import { type ErrorCode, VouchError } from '../core/errors.ts';
import type { Checkpoint } from '../log/checkpoint.ts';
import { leafMaxBytes } from '../log/leaf.ts';
import { noteMaxBytes } from '../log/note.ts';
import { statementMaxBytes } from '../log/statement.ts';
import type { NewLog } from './new-log.ts';
import { jwtKeyOf, jwtKeyText, type JwtOrder, packJwt, unpackJwt } from './jwt-protocol.ts';
import { ocspKeyOf, ocspKeyText, type OcspOrder, packOcsp, unpackOcsp } from './ocsp-protocol.ts';
import { Packer, Unpacker } from './packing.ts';
import type { AppendResult, JwtKey, OcspKey, Purpose } from './port.ts';

/** Spoken by both ends; `hello` compares it, since server and signer may be installed apart. */
export const protocolVersion = 4;

/** What one part of a CRL has at most: a fraction of a millisecond's work, which an append waits for. */
export const uploadPartBytes = 64 * 1024;
/** CRLs on their way at once; of more than that the one that has not grown for longest is forgotten. */
export const uploadsAtOnce = 8;

/**
 * Everything a server may ask. There is no request that signs bytes or a digest: what is signed follows from a leaf
 * (I11).
 */
export type Request =
  | { op: 'hello'; version: number }
  /**
   * Starts taking up the tree: from a checkpoint and the peaks at its size, or with `genesis` from nothing. `consistency`
   * leads from the floor that the signer told to a checkpoint that it did not sign itself.
   */
  | { op: 'resume'; genesis: boolean; checkpoint: string; peaks: Buffer[]; consistency?: Buffer[] }
  /** Before `resume`: the root's statement that opens a new log, for a signer that has another (`vouch restore`). */
  | ({ op: 'openLog' } & NewLog)
  /** Leaves that follow, in order. */
  | { op: 'leaves'; leaves: Buffer[] }
  /** All leaves were sent: checks floor and guard, answers with the checkpoint over the tree. */
  | { op: 'resumed' }
  | { op: 'append'; firstIndex: number; items: RequestedItem[] }
  | { op: 'signLogged'; request: RequestedSignature }
  /** A part of the TBSCertList that a leaf of a CRL will name. */
  | ({ op: 'upload' } & RequestedUpload)
  /** An OCSP answer, signed with the key that is for that and no other. */
  | ({ op: 'ocsp' } & OcspOrder)
  /** A JWT-SVID, signed with the key that is for that and no other. */
  | ({ op: 'jwt' } & JwtOrder)
  | { op: 'ping' }
  /** Writes floor and guard; a spawned signer then ends. */
  | { op: 'stop' };

/** An append item as it came over the wire; `purpose` is undefined for a code that is not known. */
export interface RequestedItem {
  purpose: Purpose | undefined;
  leaf: Buffer;
}

/** A signature asked for a leaf of the tree: proven by its path, or remembered by the signer where `path` is empty. */
export interface RequestedSignature extends RequestedItem {
  index: number;
  treeSize: number;
  path: Buffer[];
}

/** Parts of one upload have its number, and come in order; the first of them begins it. */
export interface RequestedUpload {
  upload: number;
  part: Buffer;
  last: boolean;
}

/** What the signer says of itself. */
export interface Greeting {
  version: number;
  pid: number;
  trustDomain: string;
  logOrigin: string;
  issuerKeyIds: string[];
  /** Leaves of the largest tree that it signed; 0 for none. */
  floorSize: number;
  /** What answers OCSP for these issuers. */
  ocspKey?: OcspKey | undefined;
  /** What signs JWT-SVIDs. */
  jwtKey?: JwtKey | undefined;
}

const ops = {
  hello: 1,
  resume: 2,
  leaves: 3,
  resumed: 4,
  append: 5,
  signLogged: 6,
  ping: 7,
  stop: 8,
  openLog: 9,
  upload: 10,
  ocsp: 11,
  jwt: 12,
} as const;
const opOfCode = new Map(Object.entries(ops).map(([name, code]) => [code as number, name as Request['op']]));
const purposes = {
  record: 1,
  certificate: 2,
  'server-certificate': 3,
  crl: 4,
  foreign: 5,
  'ocsp-certificate': 6,
} as const;
const purposeOfCode = new Map(
  Object.entries(purposes).map(([name, code]) => [code as number, name as Purpose]),
);

/** Kind byte of an answer; `ending` answers nothing: it is why the signer ends. */
export const answers = { done: 0, refused: 1, ending: 2 } as const;

/** Most items of one append, and most leaves of one frame: what is hashed in one turn. */
const itemsMax = 65_536;
const hashBytes = 32;
/** Of a root: P-384 needs 120, RSA with 4096 bits 550. */
const spkiMaxBytes = 1024;
/** A tree of 2^53 leaves has no more peaks and no longer path. */
const hashesMax = 64;

/** Kind byte and payload of a request. */
export function encodeRequest(request: Request): { kind: number; payload: Buffer } {
  const out = new Packer();
  if (request.op === 'hello') out.u32(request.version);
  else if (request.op === 'resume')
    out
      .flag(request.genesis)
      .text(request.checkpoint)
      .list(request.peaks, (peak) => out.bytes(peak))
      .list(request.consistency ?? [], (node) => out.bytes(node));
  else if (request.op === 'ocsp') packOcsp(out, request);
  else if (request.op === 'jwt') packJwt(out, request);
  else if (request.op === 'openLog') out.text(request.statement).bytes(request.rootSpki);
  else if (request.op === 'leaves') out.list(request.leaves, (leaf) => out.bytes(leaf));
  else if (request.op === 'append')
    out.u64(request.firstIndex).list(request.items, (item) => packItem(out, item));
  else if (request.op === 'signLogged') {
    packItem(out, request.request);
    out
      .u64(request.request.index)
      .u64(request.request.treeSize)
      .list(request.request.path, (node) => out.bytes(node));
  } else if (request.op === 'upload') out.u32(request.upload).flag(request.last).bytes(request.part);
  return { kind: ops[request.op], payload: out.payload() };
}

/** Reads a request. Throws `request-unknown-type` for an operation it does not know, `request-malformed` else. */
export function decodeRequest(kind: number, payload: Buffer): Request {
  const op = opOfCode.get(kind);
  if (op === undefined)
    throw new VouchError('request-unknown-type', `the signer knows no operation ${kind}; nothing was signed`);
  const from = new Unpacker(payload);
  const request = unpackRequest(op, from);
  from.end();
  return request;
}

/** Payload of a `hello`'s answer: JSON. */
export function encodeGreeting(greeting: Greeting): Buffer {
  const { ocspKey, jwtKey, ...rest } = greeting;
  const keys = {
    ...(ocspKey ? { ocspKey: ocspKeyText(ocspKey) } : {}),
    ...(jwtKey ? { jwtKey: jwtKeyText(jwtKey) } : {}),
  };
  return Buffer.from(JSON.stringify({ ...rest, ...keys }), 'utf8');
}

/** Reads a `hello`'s answer. Throws `request-malformed`. */
export function decodeGreeting(payload: Buffer): Greeting {
  const { version, pid, trustDomain, logOrigin, issuerKeyIds, floorSize, ocspKey, jwtKey } =
    parsedObject(payload);
  const fits =
    typeof version === 'number' &&
    typeof pid === 'number' &&
    typeof trustDomain === 'string' &&
    typeof logOrigin === 'string' &&
    Array.isArray(issuerKeyIds) &&
    issuerKeyIds.every((keyId) => typeof keyId === 'string') &&
    typeof floorSize === 'number';
  if (!fits) throw new VouchError('request-malformed', 'the signer greeted with something else');
  const known = { version, pid, trustDomain, logOrigin, issuerKeyIds, floorSize };
  return { ...known, ocspKey: ocspKeyOf(ocspKey), jwtKey: jwtKeyOf(jwtKey) };
}

/** Payload of the answer to `resumed`. */
export function encodeCheckpoint(checkpoint: Checkpoint): Buffer {
  const out = new Packer();
  packCheckpoint(out, checkpoint);
  return out.payload();
}

/** Reads the answer to `resumed`. Throws `request-malformed`. */
export function decodeCheckpoint(payload: Buffer): Checkpoint {
  const from = new Unpacker(payload);
  const checkpoint = unpackCheckpoint(from);
  from.end();
  return checkpoint;
}

/** Payload of the answer to `append`. */
export function encodeAppendResult(result: AppendResult): Buffer {
  const out = new Packer();
  out.list(result.signatures, (signature) => {
    out.flag(signature !== undefined);
    if (signature === undefined) return;
    const isError = !Buffer.isBuffer(signature);
    out.flag(isError).bytes(isError ? encodeError(signature) : signature);
  });
  packCheckpoint(out, result.checkpoint);
  return out.payload();
}

/** Reads the answer to `append`. Throws `request-malformed`. */
export function decodeAppendResult(payload: Buffer): AppendResult {
  const from = new Unpacker(payload);
  const signatures = from.list(itemsMax, () => {
    if (!from.flag()) return undefined;
    const isError = from.flag();
    const bytes = from.bytes(leafMaxBytes);
    return isError ? decodeError(bytes) : bytes;
  });
  const checkpoint = unpackCheckpoint(from);
  from.end();
  return { signatures, checkpoint };
}

/** Payload of a refusal: code and detail; anything but a VouchError says only `internal`. */
export function encodeError(error: Error): Buffer {
  const known =
    error instanceof VouchError ? error : new VouchError('internal', 'the signer failed; see its log');
  return new Packer()
    .text(known.code)
    .text(known.detail)
    .u32(known.retryAfterSeconds ?? 0)
    .payload();
}

/** Reads a refusal; what is not one of ours becomes `internal`. */
export function decodeError(payload: Buffer): VouchError {
  const from = new Unpacker(payload);
  const code = from.text(100);
  const detail = from.text(leafMaxBytes);
  const retryAfterSeconds = from.u32();
  from.end();
  const known = /^(?:(?:request|denied|policy|unavailable|integrity|config|usage)-[a-z-]+|internal)$/.test(
    code,
  );
  return new VouchError(
    known ? (code as ErrorCode) : 'internal',
    detail,
    retryAfterSeconds > 0 ? { retryAfterSeconds } : {},
  );
}

function unpackRequest(op: Request['op'], from: Unpacker): Request {
  switch (op) {
    case 'hello':
      return { op, version: from.u32() };
    case 'resume':
      return {
        op,
        genesis: from.flag(),
        checkpoint: from.text(noteMaxBytes),
        peaks: from.list(hashesMax, () => from.bytes(hashBytes)),
        consistency: from.list(hashesMax, () => from.bytes(hashBytes)),
      };
    case 'openLog':
      return { op, statement: from.text(statementMaxBytes), rootSpki: from.bytes(spkiMaxBytes) };
    case 'ocsp':
      return { op, ...unpackOcsp(from) };
    case 'jwt':
      return { op, ...unpackJwt(from) };
    case 'leaves':
      return { op, leaves: from.list(itemsMax, () => from.bytes(leafMaxBytes)) };
    case 'append':
      return { op, firstIndex: from.u64(), items: from.list(itemsMax, () => unpackItem(from)) };
    case 'signLogged':
      return {
        op,
        request: {
          ...unpackItem(from),
          index: from.u64(),
          treeSize: from.u64(),
          path: from.list(hashesMax, () => from.bytes(hashBytes)),
        },
      };
    case 'upload':
      return { op, upload: from.u32(), last: from.flag(), part: from.bytes(uploadPartBytes) };
    case 'resumed':
    case 'ping':
    case 'stop':
      return { op };
  }
}

function packItem(out: Packer, item: RequestedItem): void {
  out.u8(item.purpose === undefined ? 0 : purposes[item.purpose]).bytes(item.leaf);
}

function unpackItem(from: Unpacker): RequestedItem {
  const purpose = purposeOfCode.get(from.u8());
  return { purpose, leaf: from.bytes(leafMaxBytes) };
}

function packCheckpoint(out: Packer, checkpoint: Checkpoint): void {
  out.text(checkpoint.origin).u64(checkpoint.treeSize).bytes(checkpoint.rootHash).text(checkpoint.note);
}

function unpackCheckpoint(from: Unpacker): Checkpoint {
  return {
    origin: from.text(noteMaxBytes),
    treeSize: from.u64(),
    rootHash: from.bytes(hashBytes),
    note: from.text(noteMaxBytes),
  };
}

function parsedObject(payload: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(payload.toString('utf8'));
    if (typeof value === 'object' && value !== null) return value as Record<string, unknown>;
  } catch (cause) {
    throw new VouchError('request-malformed', 'the signer answered something that is not JSON', { cause });
  }
  return {};
}
